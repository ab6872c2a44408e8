"""Load for fanout: devices by the thousand, over real sockets and the real protocol.

Imports of the project only what a device knows (wire, slots, the device SDK), never the gateway or the control
plane: it cannot cheat.
"""
