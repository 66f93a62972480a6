"""The studio: a page in the browser to sample, compare, interpolate, restore and train (`ddim studio`).

One file for each tab: what it computes, as functions without widgets, and the widgets with the events that call them.
"""
