"""A film for those who have none at hand: a public-domain portrait, moved and damaged as old video is."""
