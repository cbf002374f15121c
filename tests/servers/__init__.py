"""Servers on loopback that the tests of remote sources read from: stand-ins of ours, and how real ones are started."""
