"""The tests: unit and shell need nothing but this repository, pacman and vm make a machine of their own."""
