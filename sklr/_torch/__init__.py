"""Private floor of the torch packages: devices, seeds, networks, batches, files of weights."""
