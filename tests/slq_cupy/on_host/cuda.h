// CUDA on the CPU, as far as slq's kernels use it: blocks one after the other, the threads of a block as fibres that
// take turns: begun by ucontext, then switched by jumps, which need no system call. Shared memory is static, since one block runs at a time. A barrier that not all threads reach is an error.

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define ON_HOST
#define __global__
#define __device__
#define __shared__ static

typedef _Float16 __half;

struct Three {
    unsigned x, y, z;
};
static Three threadIdx, blockIdx, gridDim, blockDim;

namespace fibres {
const int STACK = 65536;
struct Fibre {
    ucontext_t context;
    jmp_buf resume;
    std::vector<char> stack = std::vector<char>(STACK);
    long barriers;
    bool begun, done;
};
static std::vector<Fibre> all;
static ucontext_t outside;
static jmp_buf scheduler;
static int now;
static void (*body)(void **);
static void **given;
static double exchange[1024];

static void begin()
{
    body(given);
    all[now].done = true;
    _longjmp(scheduler, 1);
}

static void wait()
{
    all[now].barriers++;
    if (!_setjmp(all[now].resume))
        _longjmp(scheduler, 1);
}

static void go_on(int i)
{
    now = i;
    threadIdx = {(unsigned)i, 0, 0};
    if (_setjmp(scheduler))
        return;
    if (all[i].begun)
        _longjmp(all[i].resume, 1);
    all[i].begun = true;
    swapcontext(&outside, &all[i].context);
}

// Run one block of threads to its end; false where some threads waited for others that had ended.
static bool block(int threads)
{
    if ((int)all.size() < threads)
        all.resize(threads);
    for (int i = 0; i < threads; ++i) {
        getcontext(&all[i].context);
        all[i].context.uc_stack.ss_sp = all[i].stack.data();
        all[i].context.uc_stack.ss_size = STACK;
        all[i].context.uc_link = nullptr;
        all[i].barriers = 0;
        all[i].begun = all[i].done = false;
        makecontext(&all[i].context, begin, 0);
    }
    for (bool left = true; left;) {
        left = false;
        for (int i = 0; i < threads; ++i) {
            if (all[i].done)
                continue;
            go_on(i);
            left = left || !all[i].done;
        }
        for (int i = 1; i < threads; ++i)
            if (all[i].done != all[0].done || all[i].barriers != all[0].barriers)
                return false;
    }
    return true;
}
} // namespace fibres

inline void __syncthreads()
{
    fibres::wait();
}

inline double __shfl_down_sync(unsigned, double value, int distance)
{
    const unsigned me = threadIdx.x;
    fibres::exchange[me] = value;
    fibres::wait();
    const double found = me % 32 + distance < 32 ? fibres::exchange[me + distance] : value;
    fibres::wait();
    return found;
}

template <class... A, std::size_t... I> void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>)
{
    kernel(*static_cast<std::remove_const_t<A> *>(arguments[I])...);
}

template <class... A> void call(void (*kernel)(A...), void **arguments)
{
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

// Defines `int launch_NAME(grid x, grid y, threads, arguments)` for a kernel; 0 where all went well.
#define LAUNCHER(name)                                                                                                 \
    extern "C" int launch_##name(int x, int y, int threads, void **arguments)                                          \
    {                                                                                                                  \
        fibres::body = [](void **given) { call(name, given); };                                                        \
        fibres::given = arguments;                                                                                     \
        gridDim = {(unsigned)x, (unsigned)y, 1};                                                                       \
        blockDim = {(unsigned)threads, 1, 1};                                                                          \
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)                                                     \
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)                                                 \
                if (!fibres::block(threads))                                                                           \
                    return 1;                                                                                          \
        return 0;                                                                                                      \
    }
