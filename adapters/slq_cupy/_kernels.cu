// The passes of a Lanczos step over k Krylov vectors of length n, rows one after the other, and past vectors in blocks.
//
// Compiled for three types: NUMBER of the vectors, STORED of the past ones, double for all sums. A row of the grid is a
// probe; its blocks of threads take tiles of the row in turn. Every sum over n is written as one part per block of
// threads, to be added up afterwards: no atomic operation, so the same run gives the same bits. How a row is cut depends
// on n alone, so a probe's numbers do not depend on how many run beside it.

#ifndef NUMBER
#define NUMBER float
#endif
#ifndef STORED
#define STORED NUMBER
#endif

#ifndef ON_HOST
#include <cuda_fp16.h>
#endif

#define THREADS 256
#define WARPS (THREADS / 32)
#define ITEMS 8  // numbers of a tile that a thread adds up in NUMBER before they go into a double
#define WIDTH 16 // past vectors that are projected out at once

typedef long long Long;

// Add up what the threads of a block hold, and write one sum per column.
template <int columns>
__device__ void write_sums(double (&own)[columns], double *sums)
{
    __shared__ double shared[WARPS][columns];
    for (int j = 0; j < columns; ++j)
        for (int distance = 16; distance > 0; distance /= 2)
            own[j] += __shfl_down_sync(0xffffffffu, own[j], distance);
    if (threadIdx.x % 32 == 0)
        for (int j = 0; j < columns; ++j)
            shared[threadIdx.x / 32][j] = own[j];
    __syncthreads();
    if (threadIdx.x < columns) {
        double sum = 0;
        for (int warp = 0; warp < WARPS; ++warp)
            sum += shared[warp][threadIdx.x];
        sums[threadIdx.x] = sum;
    }
}

// Where the parts of this row and this block of threads begin.
__device__ Long part_of(int columns)
{
    return ((Long)blockIdx.y * gridDim.x + blockIdx.x) * columns;
}

// w = images - beta previous; the parts of w current.
extern "C" __global__ void recur(const NUMBER *images, const NUMBER *previous, const NUMBER *current,
                                 const double *beta, NUMBER *w, double *parts, Long n)
{
    const Long row = blockIdx.y * n, stride = (Long)gridDim.x * THREADS * ITEMS;
    const NUMBER factor = (NUMBER)beta[blockIdx.y];
    double sum[1] = {0};
    for (Long tile = (Long)blockIdx.x * THREADS * ITEMS; tile < n; tile += stride) {
        NUMBER part = 0;
        for (int item = 0; item < ITEMS; ++item) {
            const Long i = tile + item * THREADS + threadIdx.x;
            if (i < n) {
                const NUMBER value = images[row + i] - factor * previous[row + i];
                w[row + i] = value;
                part += value * current[row + i];
            }
        }
        sum[0] += part;
    }
    write_sums<1>(sum, parts + part_of(1));
}

// w -= alpha current; the parts of w w.
extern "C" __global__ void orthogonalise(NUMBER *w, const NUMBER *current, const double *alpha, double *parts, Long n)
{
    const Long row = blockIdx.y * n, stride = (Long)gridDim.x * THREADS * ITEMS;
    const NUMBER factor = (NUMBER)alpha[blockIdx.y];
    double sum[1] = {0};
    for (Long tile = (Long)blockIdx.x * THREADS * ITEMS; tile < n; tile += stride) {
        NUMBER part = 0;
        for (int item = 0; item < ITEMS; ++item) {
            const Long i = tile + item * THREADS + threadIdx.x;
            if (i < n) {
                const NUMBER value = w[row + i] - factor * current[row + i];
                w[row + i] = value;
                part += value * value;
            }
        }
        sum[0] += part;
    }
    write_sums<1>(sum, parts + part_of(1));
}

// The parts of w older and of w current.
extern "C" __global__ void overlaps(const NUMBER *w, const NUMBER *older, const NUMBER *current, double *parts, Long n)
{
    const Long row = blockIdx.y * n, stride = (Long)gridDim.x * THREADS * ITEMS;
    double sum[2] = {0};
    for (Long tile = (Long)blockIdx.x * THREADS * ITEMS; tile < n; tile += stride) {
        NUMBER first = 0, second = 0;
        for (int item = 0; item < ITEMS; ++item) {
            const Long i = tile + item * THREADS + threadIdx.x;
            if (i < n) {
                const NUMBER value = w[row + i];
                first += value * older[row + i];
                second += value * current[row + i];
            }
        }
        sum[0] += first;
        sum[1] += second;
    }
    write_sums<2>(sum, parts + part_of(2));
}

// w -= the first factor times older and the second times current; the parts of w w.
extern "C" __global__ void take_out(NUMBER *w, const NUMBER *older, const NUMBER *current, const double *factors,
                                    double *parts, Long n)
{
    const Long row = blockIdx.y * n, stride = (Long)gridDim.x * THREADS * ITEMS;
    const NUMBER back = (NUMBER)factors[2 * blockIdx.y], own = (NUMBER)factors[2 * blockIdx.y + 1];
    double sum[1] = {0};
    for (Long tile = (Long)blockIdx.x * THREADS * ITEMS; tile < n; tile += stride) {
        NUMBER part = 0;
        for (int item = 0; item < ITEMS; ++item) {
            const Long i = tile + item * THREADS + threadIdx.x;
            if (i < n) {
                const NUMBER value = w[row + i] - back * older[row + i] - own * current[row + i];
                w[row + i] = value;
                part += value * value;
            }
        }
        sum[0] += part;
    }
    write_sums<1>(sum, parts + part_of(1));
}

// out = w / beta, where beta is not zero.
extern "C" __global__ void normalise(const NUMBER *w, const double *beta, NUMBER *out, Long n)
{
    const Long row = blockIdx.y * n;
    const NUMBER divisor = beta[blockIdx.y] > 0 ? (NUMBER)beta[blockIdx.y] : (NUMBER)1;
    for (Long i = (Long)blockIdx.x * THREADS + threadIdx.x; i < n; i += (Long)gridDim.x * THREADS)
        out[row + i] = w[row + i] / divisor;
}

// Vector `slot` of each probe's block = scale current, in the dtype of the past vectors.
extern "C" __global__ void store(const NUMBER *current, STORED *block, NUMBER scale, int slot, Long n)
{
    const NUMBER *from = current + blockIdx.y * n;
    STORED *to = block + (blockIdx.y * (Long)WIDTH + slot) * n;
    for (Long i = (Long)blockIdx.x * THREADS + threadIdx.x; i < n; i += (Long)gridDim.x * THREADS)
        to[i] = (STORED)(scale * from[i]);
}

// The parts of w times each of the first `count` vectors of a block.
extern "C" __global__ void coefficients(const NUMBER *w, const STORED *block, double *parts, int count, Long n)
{
    const NUMBER *row = w + blockIdx.y * n;
    const STORED *past = block + blockIdx.y * (Long)WIDTH * n;
    const Long stride = (Long)gridDim.x * THREADS * ITEMS;
    double sum[WIDTH] = {0};
    for (Long tile = (Long)blockIdx.x * THREADS * ITEMS; tile < n; tile += stride) {
        NUMBER part[WIDTH] = {0};
        for (int item = 0; item < ITEMS; ++item) {
            const Long i = tile + item * THREADS + threadIdx.x;
            if (i < n) {
                const NUMBER value = row[i];
#pragma unroll
                for (int j = 0; j < WIDTH; ++j)
                    if (j < count)
                        part[j] += value * (NUMBER)past[j * n + i];
            }
        }
#pragma unroll
        for (int j = 0; j < WIDTH; ++j)
            sum[j] += part[j];
    }
    write_sums<WIDTH>(sum, parts + part_of(WIDTH));
}

// w -= the sum of factor times each of the first `count` vectors of a block.
extern "C" __global__ void subtract(NUMBER *w, const STORED *block, const double *factors, int count, Long n)
{
    NUMBER *row = w + blockIdx.y * n;
    const STORED *past = block + blockIdx.y * (Long)WIDTH * n;
    const Long stride = (Long)gridDim.x * THREADS * ITEMS;
    NUMBER factor[WIDTH];
#pragma unroll
    for (int j = 0; j < WIDTH; ++j)
        factor[j] = (NUMBER)factors[blockIdx.y * WIDTH + j];
    for (Long tile = (Long)blockIdx.x * THREADS * ITEMS; tile < n; tile += stride) {
        for (int item = 0; item < ITEMS; ++item) {
            const Long i = tile + item * THREADS + threadIdx.x;
            if (i < n) {
                NUMBER value = row[i];
#pragma unroll
                for (int j = 0; j < WIDTH; ++j)
                    if (j < count)
                        value -= factor[j] * (NUMBER)past[j * n + i];
                row[i] = value;
            }
        }
    }
}
