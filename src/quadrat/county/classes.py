"""The classes of the synthetic county: those of the legend nlcd8, by name."""

BARREN, CULTIVATED, DEVELOPED, FOREST, HERBACEOUS, SHRUB, WATER, WETLANDS = range(8)
CLASS_NAMES = (
    "Barren", "Cultivated", "Developed", "Forest", "Herbaceous", "Shrub", "Water", "Wetlands",
)  # fmt: skip
