"""What benchmarks train: the models, and the same training by hand, with fsmtrain and with other trainers."""
