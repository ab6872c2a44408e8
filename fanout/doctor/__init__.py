"""What a machine can hold: `capacity` works it out, `machine` reads limits, `report` says it in words."""
