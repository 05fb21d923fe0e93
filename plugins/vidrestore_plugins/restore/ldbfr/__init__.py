"""LD-BFR: vector quantisation with dual cross-attention, enhanced by latent diffusion (README.md here)."""
