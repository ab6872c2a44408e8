"""The conformance kit: a scripted gateway that walks any device through docs/protocol.md.

It judges by what goes over the wire alone, so it works for a device in any language. `scenarios` says what is
tried, `walk` tries it, `gateway` and `peer` are the server's side, `scene` what a scenario has in its hands.
"""
