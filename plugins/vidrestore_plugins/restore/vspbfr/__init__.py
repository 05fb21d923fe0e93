"""restore=vspbfr: a face's style code, made healthy by diffusion, prompts the network that restores it."""
