"""Networks of any width out of one: hidden units in an order, and weights as a field over them."""
