"""Who a face is."""
