"""What `slq_torch.distributed` is made of: ranks, three ways to split a run, and what each costs."""
