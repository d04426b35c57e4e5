"""From a file of any format to 8-bit RGB by the rule of a card, and volumes as they are."""
