"""The words of captions that a concept may be named by. Which word, and whether it may be believed: `held_out`."""

from __future__ import annotations

import re

FUNCTION_WORDS = frozenset(  # articles, pronouns, auxiliaries, conjunctions, prepositions, quantifiers, adverbs of degree
    "a an the this that these those some any each every either neither both all another other others such same no none "
    "i me my mine myself we us our ours you your yours he him his himself she her hers herself it its itself they them "
    "their theirs themselves who whom whose which what where when why how "
    "am is are was were be been being do does did doing done have has had having can could may might must shall should "
    "will would seen see shown "
    "and or nor but so if then than because while though although as until unless since "
    "about above across after against along alongside amid among amongst around aside at atop away back before behind "
    "below beneath beside besides between beyond by down during except for from front in inside into near nearby next of "
    "off on onto opposite out outside over past per through throughout to toward towards under underneath up upon via "
    "with within without together apart top bottom left right middle side "
    "not only just also too very quite rather more most much many few several less least lot lots enough almost again "
    "ever never here there now still already yet even s t d ll re ve".split()
)
FRAMES = frozenset(  # what captions of any picture say of it
    "picture pictures image images photo photos photograph scene scenes view showing shows show one two pair group".split()
)
STOP_WORDS = FUNCTION_WORDS | FRAMES


def words_of(text: str) -> list[str]:
    """Lower-case words of a caption without stop words; letters of any script and digits count."""
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS]


def same_noun(a: str, b: str) -> bool:
    """ "cat" and "cats", "box" and "boxes": one of them says enough."""
    short, long = sorted((a, b), key=len)
    return long in (short, f"{short}s", f"{short}es")
