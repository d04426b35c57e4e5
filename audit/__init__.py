"""What the locks hold, checked: known vulnerabilities and licences. ``make audit`` runs it."""
