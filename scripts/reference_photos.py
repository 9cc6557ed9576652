"""The photographs of ``closedloop/references``: where each comes from, its author, its licence and its crop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LICENCES: dict[str, str] = {
    "LicenseRef-Public-Domain": "https://creativecommons.org/publicdomain/mark/1.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-2.5": "https://creativecommons.org/licenses/by/2.5/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "GPL-2.0-or-later": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
    "LGPL-3.0-only": "https://www.gnu.org/licenses/lgpl-3.0.html",
}
"""Every licence that a photograph may have, with the address of its text."""

SHARE_ALIKE = ("CC-BY-SA-", "GPL-", "LGPL-")

PACKAGES: dict[str, str] = {
    "gcompris-qt-data": "3.1-2",
    "libsixel-examples": "1.10.3-3",
    "lomiri-wallpapers-16.04": "20.04.0-2",
    "mate-backgrounds": "1.26.0-1",
    "palapeli-data": "4:22.12.3-1",
    "plasma-workspace-wallpapers": "4:5.27.5-2",
    "python3-skimage": "0.19.3-8",
    "python3-sklearn": "1.2.1+dfsg-1",
    "scratch": "1.4.0.6~dfsg1-6.1",
    "tuxpaint-data": "1:0.9.28-sdl2-1",
    "tuxpaint-stamps-default": "2022.06.04-1",
}
"""Debian packages and the versions that the photographs are taken from."""

GCOMPRIS_RCC = "usr/share/gcompris-qt/rcc"
GCOMPRIS_ROOT = "gcompris/src/activities"

ROOTS: dict[str, str] = {
    "libsixel-examples": "usr/share/doc/libsixel-examples/examples/images",
    "lomiri-wallpapers-16.04": "usr/share/backgrounds",
    "mate-backgrounds": "usr/share/backgrounds/mate/nature",
    "palapeli-data": "usr/share/palapeli/collection",
    "plasma-workspace-wallpapers": "usr/share/wallpapers",
    "python3-skimage": "usr/lib/python3/dist-packages/skimage/data",
    "python3-sklearn": "usr/lib/python3/dist-packages/sklearn/datasets/images",
    "scratch": "usr/share/scratch/Media/Backgrounds",
    "tuxpaint-data": "usr/share/tuxpaint/templates",
    "tuxpaint-stamps-default": "usr/share/tuxpaint/stamps",
}
"""Folder inside each package that the paths of its photographs are relative to."""


@dataclass(frozen=True)
class Credit:
    """Who made a photograph, under which licence, and where it was first published.

    Attributes:
        author: Name of the author or of the rights holder.
        licence: SPDX identifier, one of `LICENCES`.
        title: Title, or an empty string where none is known.
        source: Address of the first publication, or an empty string where none is known.
    """

    author: str
    licence: str
    title: str = ""
    source: str = ""


@dataclass(frozen=True)
class Photo:
    """One photograph to take out of a package.

    Attributes:
        slug: Short subject in ASCII, used in the file name.
        package: Name of the Debian package.
        path: Path below the package's folder in `ROOTS`, or below `GCOMPRIS_ROOT` inside a GCompris resource bundle.
        crop: Horizontal centre and vertical centre of the square, and its side as a share of the image's shorter side.
            The centre is given as a share of the width and of the height. `None` marks a cut-out with an alpha
            channel, which is placed on grey.
        credit: Credit, or `None` where the README inside the GCompris bundle holds it.
    """

    slug: str
    package: str
    path: str
    crop: tuple[float, float, float] | None
    credit: Credit | None = None


def _gcompris(slug: str, path: str, cx: float = 0.5, cy: float = 0.5, share: float = 1.0) -> Photo:
    """Return an entry for a photograph of GCompris; its README holds the credit."""
    return Photo(slug, "gcompris-qt-data", path, (cx, cy, share))


def _fish(slug: str, number: int, cx: float = 0.5) -> Photo:
    """Return an entry for one of the numbered fish photographs of GCompris."""
    return _gcompris(slug, f"categorization/resource/images/fishes/fish{number}.webp", cx)


def _lomiri(slug: str, name: str, author: str, licence: str, crop: tuple[float, float, float]) -> Photo:
    """Return an entry for a wallpaper of Lomiri."""
    title = name.split("_by_")[0].replace("_", " ")
    return Photo(slug, "lomiri-wallpapers-16.04", f"{name}.jpg", crop, Credit(author, licence, title))


def _mate(slug: str, name: str, author: str, cx: float = 0.5, cy: float = 0.5, share: float = 1.0) -> Photo:
    """Return an entry for a nature wallpaper of MATE."""
    credit = Credit(author, "GPL-2.0-or-later", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return Photo(slug, "mate-backgrounds", f"{name}.jpg", (cx, cy, share), credit)


def _plasma(slug: str, name: str, title: str, author: str, crop: tuple[float, float, float]) -> Photo:
    """Return an entry for a photographic wallpaper of Plasma."""
    path = f"{name}/contents/images/2560x1600.jpg"
    return Photo(slug, "plasma-workspace-wallpapers", path, crop, Credit(author, "LGPL-3.0-only", title))


def _template(name: str, cx: float = 0.5, cy: float = 0.5, share: float = 1.0) -> Photo:
    """Return an entry for a photographic template of Tux Paint."""
    credit = Credit("Bill Kendrick and the Tux Paint contributors", "GPL-2.0-or-later", name.replace("_", " "))
    return Photo(name.replace("_", "-"), "tuxpaint-data", f"{name}.jpg", (cx, cy, share), credit)


def _scratch(slug: str, path: str, cx: float = 0.5, cy: float = 0.5, share: float = 1.0) -> Photo:
    """Return an entry for a photographic background of Scratch."""
    title = Path(path).stem.replace("-", " ").replace("_", " ")
    credit = Credit("Massachusetts Institute of Technology", "CC-BY-SA-3.0", title)
    return Photo(slug, "scratch", f"{path}.jpg", (cx, cy, share), credit)


def _stamp(slug: str, path: str, author: str, licence: str = "GPL-2.0-or-later", source: str = "") -> Photo:
    """Return an entry for a cut-out stamp of Tux Paint."""
    title = Path(path).stem.replace("_", " ")
    return Photo(slug, "tuxpaint-stamps-default", f"{path}.png", None, Credit(author, licence, title, source))


ERASE = "erase/resource"
FARM = "explore_farm_animals/resource/animals"
WORLD = "explore_world_animals/resource/animals"
MUSIC = "explore_world_music/resource/music"
OTHERS = "categorization/resource/images/others"
TOOLS = "categorization/resource/images/tools"
ENERGY = "categorization/resource/images/renewable"
MONUMENTS = "explore_monuments/resource"
COMMONS = "https://commons.wikimedia.org/wiki/File:"

PHOTOS: tuple[Photo, ...] = (
    # Mammals.
    _gcompris("calf", f"{ERASE}/calf.webp"),
    _gcompris("camels", f"{ERASE}/camels.webp", 0.6),
    _gcompris("cheetah", f"{ERASE}/cheetah.webp", 0.72),
    _gcompris("gibbon", f"{ERASE}/gibbon.webp", 0.52),
    _gcompris("giraffe-head", f"{ERASE}/giraffe.webp", 0.72),
    _gcompris("goat", f"{ERASE}/goat.webp", 0.55),
    _gcompris("gorilla", f"{ERASE}/gorilla.webp"),
    _gcompris("kitten", f"{ERASE}/kitten.webp", 0.47),
    _gcompris("meerkats", f"{ERASE}/meerkats.webp", 0.56),
    _gcompris("pika", f"{ERASE}/pika.webp", 0.6),
    _gcompris("red-panda", f"{ERASE}/red_panda.webp", 0.58),
    _gcompris("rhinoceros", f"{ERASE}/rhinoceros.webp", 0.66),
    _gcompris("cat-with-yarn", f"{FARM}/cat.webp"),
    _gcompris("cow", f"{FARM}/cow.webp", 0.56),
    _gcompris("dog", f"{FARM}/dog.webp", 0.6),
    _gcompris("horses", f"{FARM}/horse.webp", 0.55),
    _gcompris("pig", f"{FARM}/pig.webp", 0.48),
    _gcompris("sheep", f"{FARM}/sheep.webp"),
    _gcompris("bison", f"{WORLD}/bison.webp", 0.55),
    _gcompris("hedgehog", f"{WORLD}/hedgehog.webp"),
    _gcompris("jaguars", f"{WORLD}/jaguar.webp", 0.5),
    _gcompris("kangaroos", f"{WORLD}/kangaroo.webp", 0.5),
    _gcompris("koalas", f"{WORLD}/koala.webp", 0.45, 0.42),
    _gcompris("lemurs", f"{WORLD}/lemur.webp", 0.4),
    _gcompris("moose", f"{WORLD}/moose.webp", 0.52),
    _gcompris("panda", f"{WORLD}/panda.webp", 0.42),
    _gcompris("polar-bear", f"{WORLD}/polar_bear.webp", 0.6),
    Photo(
        "tabby-cat",
        "python3-skimage",
        "chelsea.png",
        (0.42, 0.5, 1.0),
        Credit("Stefan van der Walt", "CC0-1.0", "Chelsea"),
    ),
    _lomiri("two-dogs", "friends_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", (0.55, 0.5, 0.9)),
    # Birds.
    _gcompris("gosling", f"{ERASE}/gosling.webp"),
    _gcompris("heron-in-flight", f"{ERASE}/heron.webp", 0.42),
    _gcompris("kingfisher", f"{ERASE}/kingfisher.webp", 0.45),
    _gcompris("harrier-in-flight", f"{ERASE}/northern_harrier.webp", 0.47),
    _gcompris("penguin", f"{ERASE}/penguin.webp", 0.5),
    _gcompris("toucan", f"{ERASE}/toucan.webp", 0.35),
    _gcompris("hens", f"{FARM}/chicken.webp", 0.38),
    _gcompris("duck", f"{FARM}/duck.webp", 0.48),
    _gcompris("owl", f"{FARM}/owl.webp", 0.72),
    _gcompris("macaw", f"{WORLD}/scarlet_macaw.webp", 0.5),
    Photo(
        "egret",
        "libsixel-examples",
        "egret.jpg",
        (0.5, 0.5, 1.0),
        Credit("Jon Sullivan", "LicenseRef-Public-Domain", "Egret"),
    ),
    # Reptiles, insects and sea life.
    _gcompris("chameleon", f"{ERASE}/chamaeleon.webp", 0.45),
    _gcompris("crocodile", f"{WORLD}/crocodile.webp", 0.68),
    _gcompris("komodo-dragon", f"{WORLD}/dragon.webp", 0.45),
    Photo(
        "snake",
        "libsixel-examples",
        "snake.jpg",
        (0.45, 0.5, 1.0),
        Credit("Jon Sullivan", "LicenseRef-Public-Domain", "Snake"),
    ),
    _gcompris("bee-at-blossom", f"{ERASE}/bee.webp", 0.3),
    _gcompris("butterfly", f"{ERASE}/butterfly.webp", 0.5),
    _gcompris("caterpillar", f"{ERASE}/caterpillar.webp", 0.42),
    Photo(
        "bee-on-aster",
        "palapeli-data",
        "european-honey-bee.jpg",
        (0.5, 0.5, 1.0),
        Credit(
            "John Severns",
            "LicenseRef-Public-Domain",
            "European honey bee",
            f"{COMMONS}European_honey_bee_extracts_nectar.jpg",
        ),
    ),
    _mate("ladybird", "LadyBird", "Charles Barbin", 0.6, 0.5, 0.8),
    _gcompris("crab", f"{ERASE}/crab.webp", 0.5),
    _fish("angelfish", 1),
    _fish("perch", 4),
    _fish("discus", 6, 0.55),
    _fish("clownfish", 9, 0.55),
    _fish("anthias-on-reef", 10),
    _fish("fish-shoal", 11),
    _fish("red-fish", 18),
    _fish("goldfish", 25),
    _fish("pufferfish", 28),
    _gcompris("coral", "clickgame/resource/sea3.webp", 0.5),
    _gcompris("basket-star", "clickgame/resource/sea6.webp", 0.55),
    _template("jellyfish", 0.35),
    # Flowers, plants and trees.
    Photo(
        "dahlia",
        "python3-sklearn",
        "flower.jpg",
        (0.52, 0.5, 1.0),
        Credit("vultilion", "CC-BY-2.0", "Flower", "https://www.flickr.com/photos/vultilion/6056698931/"),
    ),
    _mate("marigold", "Garden", "Charles Barbin", 0.68),
    _mate("yellow-flower", "YellowFlower", "Charles Barbin", 0.6),
    _mate("grass", "GreenMeadow", "Timothy Schellhase, Lapo Calamandrei"),
    _mate("leaf-with-rain", "RainDrops", "blackcombwhistler07", 0.4),
    _mate("dune-grass", "Dune", "Marco Cogoni, Hylke Bons", 0.45),
    _mate("seed-parachutes", "TwoWings", "Charles Barbin, Hylke Bons", 0.6),
    _lomiri("dandelions", "seeding_by_Clements_Engelhardt", "Clemens Engelhardt", "CC0-1.0", (0.4, 0.5, 1.0)),
    _plasma("autumn-leaves", "FallenLeaf", "Fallen Leaf", "Martin Klapetek", (0.62, 0.55, 0.9)),
    _plasma("moss", "OneStandsOut", "One Stands Out", "Risto Saukonpää", (0.55, 0.5, 0.75)),
    _plasma("forest", "Path", "Path", "Risto Saukonpää", (0.45, 0.5, 1.0)),
    _template("corn_maze", 0.45),
    _template("sun_behind_leaves", 0.6),
    _template("trees_at_dusk", 0.5),
    _scratch("flower-bed", "Nature/flower-bed", 0.5, 0.45, 0.9),
    _stamp("daffodil", "plants/flowers/daffodil", "Caroline Ford"),
    _stamp("holm-oak", "plants/trees/holm_oak", "Pere Pujal i Carabantes"),
    _stamp("palm-tree", "plants/trees/liberia-palm", "Albert Cahalan"),
    # Food.
    Photo(
        "citrus-slices",
        "palapeli-data",
        "citrus-fruits.jpg",
        (0.5, 0.5, 1.0),
        Credit(
            "US Department of Agriculture", "LicenseRef-Public-Domain", "Citrus fruits", f"{COMMONS}Citrus_fruits.jpg"
        ),
    ),
    _lomiri("fig-in-bowl", "Picture_0B_by_freespace", "Trevor Freespace", "CC-BY-4.0", (0.55, 0.5, 0.95)),
    Photo(
        "coffee",
        "python3-skimage",
        "coffee.png",
        (0.52, 0.5, 1.0),
        Credit("Rachel Michetti", "CC0-1.0", "Coffee"),
    ),
    _stamp("corn-cob", "food/vegetables/corn", "Steve Karg"),
    _stamp(
        "roast-turkey",
        "seasonal/christmas/Roast_turkey",
        "Patrick Fitzgerald",
        "CC-BY-2.0",
        f"{COMMONS}Thanksgiving_Turkey.jpg",
    ),
    _stamp("mince-pie", "seasonal/christmas/Mince_Pie", "Jmb", "CC-BY-2.5", f"{COMMONS}Mince_Pie_PICT6877a.jpg"),
    # Household objects, tools and instruments.
    _gcompris("milk-pail", f"{OTHERS}/bucket.webp"),
    _gcompris("chair", f"{OTHERS}/chair.webp", 0.5, 0.52),
    _gcompris("cup-and-saucer", f"{OTHERS}/cup.webp"),
    _gcompris("cutlery", f"{OTHERS}/knife.webp"),
    _gcompris("frying-pan", f"{OTHERS}/pan.webp", 0.4),
    _gcompris("pillow", f"{OTHERS}/pillow.webp", 0.5),
    _gcompris("spoons", f"{OTHERS}/spoons.webp", 0.5),
    _gcompris("sledgehammer", f"{TOOLS}/hammer3.webp"),
    _gcompris("hammer", f"{TOOLS}/hammer1.webp", 0.6),
    _gcompris("tape-reel", f"{TOOLS}/measuringTape2.webp", 0.5),
    _gcompris("pliers", f"{TOOLS}/plier4.webp", 0.45),
    _gcompris("scissors", f"{TOOLS}/scissors2.webp", 0.5),
    _gcompris("wrench", f"{TOOLS}/wrench1.webp", 0.4),
    _gcompris("nail-clippers", f"{TOOLS}/nailCutter.webp"),
    _gcompris("sickle", f"{TOOLS}/sickle.webp", 0.35),
    _gcompris("side-cutter", f"{TOOLS}/sideCutter1.webp"),
    _gcompris("drums", f"{MUSIC}/africa.webp"),
    _gcompris("drum-kit-and-guitar", f"{MUSIC}/america.webp", 0.55),
    _lomiri("paint-brushes", "Picture_1A_by_freespace", "Trevor Freespace", "CC-BY-4.0", (0.5, 0.5, 1.0)),
    _plasma("paper-cups", "ColorfulCups", "Colorful Cups", "Dmitri Popov", (0.5, 0.5, 0.8)),
    _template("wool_mill_machine", 0.5),
    # Vehicles and machines.
    _stamp(
        "fire-engine",
        "vehicles/emergency/firetruck",
        "Aaron M. Lang",
        "CC-BY-2.5",
        "https://en.wikipedia.org/wiki/File:E28_b.JPG",
    ),
    _stamp("dumper", "vehicles/construction/dumper", "Pere Pujal i Carabantes"),
    _stamp("cement-mixer", "household/tools/cementmixer", "Caroline Ford"),
    _stamp("tractor-wheel", "vehicles/wheel_tractor", "Caroline Ford"),
    _stamp("hot-air-balloon", "vehicles/flight/balloon360", "Albert Cahalan"),
    _plasma("rowing-boats", "EveningGlow", "Evening Glow", "Ian Hex", (0.62, 0.55, 0.85)),
    _gcompris("solar-panels", f"{ENERGY}/solar4.webp"),
    _gcompris("solar-cooker", f"{ENERGY}/solar1.webp"),
    _gcompris("wind-turbine", f"{ENERGY}/windmill6.webp"),
    # Buildings.
    _gcompris("windmill", f"{ENERGY}/windmill9.webp", 0.5, 0.42),
    _gcompris("windmills-by-canal", f"{ENERGY}/windmill13.webp", 0.6),
    _gcompris("chateau", f"{MONUMENTS}/france/chateaudeChenonceau.webp", 0.5),
    _gcompris("walled-city", f"{MONUMENTS}/france/citedeCarcassonne.webp", 0.5),
    _gcompris("aqueduct", f"{MONUMENTS}/france/pontduGard.webp", 0.5),
    _gcompris("cathedral", f"{MONUMENTS}/france/reimsCathedral.webp", 0.55),
    _gcompris("domed-church", f"{MONUMENTS}/germany/berlinCathedral.webp", 0.5),
    _gcompris("gate-at-dusk", f"{MONUMENTS}/germany/brandenburgGate.webp", 0.5),
    _gcompris("hill-castle", f"{MONUMENTS}/germany/neuschwansteinCastle.webp", 0.55),
    _gcompris("mosque-towers", f"{MONUMENTS}/india/charminar.webp", 0.5, 0.4),
    _gcompris("windowed-facade", f"{MONUMENTS}/india/hawaMahal.webp", 0.5),
    _gcompris("carved-temple", f"{MONUMENTS}/india/konarkSunTemple.webp", 0.5),
    _gcompris("minaret-through-arch", f"{MONUMENTS}/india/qutubMinar.webp", 0.5, 0.45),
    _gcompris("colonnade-at-night", f"{MONUMENTS}/usa/lincolnMemorial.webp", 0.45),
    _gcompris("star-fort", f"{MONUMENTS}/usa/castillodeSanMarcos.webp", 0.5),
    _gcompris("amphitheatre", f"{MONUMENTS}/wonders/colosseum.webp", 0.5),
    _gcompris("rock-facade", f"{MONUMENTS}/wonders/petra.webp", 0.5),
    Photo(
        "pavilion",
        "python3-sklearn",
        "china.jpg",
        (0.45, 0.5, 1.0),
        Credit("danielbuechele", "CC-BY-2.0", "China", "https://www.flickr.com/photos/danielbuechele/6061409035/"),
    ),
    Photo(
        "bridge-at-night",
        "palapeli-data",
        "cincinnati-bridge.jpg",
        (0.4, 0.5, 1.0),
        Credit(
            "Derek Jensen",
            "LicenseRef-Public-Domain",
            "Roebling Suspension Bridge",
            f"{COMMONS}Cincinnati-roebling-suspension-bridge.jpg",
        ),
    ),
    _template("lighthouse", 0.5, 0.4),
    _scratch("brick-wall-and-stairs", "Outdoors/brick-wall-and-stairs", 0.6),
    _scratch("arcade-walk", "Outdoors/hallway_outdoors"),
    _scratch("wooden-house", "Outdoors/wooden-house", 0.55),
    _scratch("kitchen", "Indoors/kitchen"),
    _scratch("playground", "Outdoors/atom-playground"),
    _scratch("railway", "Outdoors/train-tracks1"),
    # Landscapes, water and sky.
    _gcompris("canyon", f"{MONUMENTS}/usa/canyondeChelly.webp", 0.5),
    _gcompris("great-wall", f"{MONUMENTS}/wonders/greatWallofChina.webp", 0.4),
    _gcompris("mountain-ruins", f"{MONUMENTS}/wonders/machuPicchu.webp", 0.55),
    _gcompris("dam-spillway", f"{ENERGY}/dam1.webp", 0.5),
    _lomiri("mountain-path", "picosdeeuropa_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", (0.45, 0.5, 1.0)),
    _lomiri("stream", "life_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", (0.5, 0.5, 1.0)),
    _plasma("jetty", "BytheWater", "By the water", "Maciej Wiklo", (0.55, 0.5, 1.0)),
    _mate("water-drop", "Aqua", "Charles Barbin", 0.72),
    _scratch("rocky-stream", "Nature/water-and-rocks"),
    _template("cliff", 0.45),
    _template("ocean_waves", 0.45),
    _template("ocean_splash", 0.5),
    _template("sun_behind_clouds", 0.5),
    # Textures.
    _template("burnt_bark", 0.5),
    _template("mossy_bark", 0.5, 0.5, 0.85),
    _template("mossy_log", 0.5),
    _template("mudstone", 0.5),
    _template("rocks", 0.5, 0.6, 0.75),
)
"""Every photograph of the folder, in the order of the file numbers."""
