"""An event, its versions and the policies that come of them."""
