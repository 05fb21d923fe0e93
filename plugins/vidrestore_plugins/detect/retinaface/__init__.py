"""detect=retinaface: the RetinaFace detector, its bundled weights and their recipe."""
