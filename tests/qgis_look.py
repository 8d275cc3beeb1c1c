"""Run by QGIS's own Python, without a display: how files open there, as JSON on stdout.

    python3 tests/qgis_look.py PICTURE FILE [FILE...]

Each file is opened as a user drags it into the window: its own style is loaded, legend and problems
are told, and all of them are drawn into one picture, the last on top.
"""

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize


def opened(path):
    file = path.split("|")[0]
    return QgsVectorLayer(path, file, "ogr") if file.endswith(".gpkg") else QgsRasterLayer(path)


def legend(layer):
    if isinstance(layer, QgsRasterLayer):
        return [[name, colour.name()] for name, colour in layer.legendSymbologyItems()]
    items = layer.renderer().legendSymbolItems()
    return [[i.label(), i.symbol().color().name()] for i in items if i.symbol()]


def told(layer):
    about = {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "renderer": layer.renderer().type(),
        "legend": legend(layer),
    }
    if isinstance(layer, QgsVectorLayer):
        number, _, names, *_ = layer.listStylesInDatabase()
        fields = layer.fields()
        widgets = [layer.editorWidgetSetup(i).type() for i in range(fields.count())]
        about |= {
            "features": layer.featureCount(),
            "styles": names[:number] if number > 0 else [],
            "widgets": {f.name(): w for f, w in zip(fields, widgets) if w},  # noqa: B905
            "tip": layer.mapTipTemplate(),
        }
    return about


def draw(layers, picture):
    settings = QgsMapSettings()
    settings.setLayers(layers[::-1])
    settings.setDestinationCrs(layers[0].crs())
    settings.setExtent(layers[0].extent())
    settings.setOutputSize(QSize(800, 600))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(picture)


def main():
    picture, *files = sys.argv[1:]
    application = QgsApplication([], False)
    application.initQgis()
    layers = [opened(path) for path in files]
    QgsProject.instance().addMapLayers(layers)
    print(json.dumps({path: told(layer) for path, layer in zip(files, layers)}))  # noqa: B905
    draw(layers, picture)
    QgsProject.instance().removeAllMapLayers()
    application.exitQgis()


main()
