"""The images of the lab: the host VM's disk and kernels, and what a guest boots from."""
