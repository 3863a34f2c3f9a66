"""What the coordinator sees of single answers. One file per mode, `privacy.aggregation` names it.

Each tells who learns what, and defines

    MASKS                              whether answers are masked
    places(privacy) -> (int, int)      how many keyholders there are, and how many of them together
                                       learn nothing; raises SettingsError. Only where it masks.
    EXPERIMENT = True                  where privacy.experiments must name it, too
"""
