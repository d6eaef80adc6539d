"""Networks: pure linen modules, one architecture family a file; no loss, no optimizer."""
