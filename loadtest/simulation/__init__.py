"""The parts of the fleet simulator, one mechanism a module; `loadtest.simulator` puts them together."""
