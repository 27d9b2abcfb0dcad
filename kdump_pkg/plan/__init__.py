"""Pure planners: frozen facts in, frozen plans out. Nothing here reads or writes anything."""
