"""What can be done to embeddings, concepts, similarities and lists: one class in one file, registered here.

`parse("removal:attribution,share=0.01+realign:alpha=0.1")` gives an `Intervention`; `fitting.fit` applies it to a task. To
add a kind of step write a file like the ones beside this one (`step` says what it may implement) and add it to the list
below, or keep it outside the repository and name it with `--plugin` or $RETRIEVALLENS_PLUGINS.
"""

from analysis.retrieval.interventions.registry import (
    KINDS,
    families,
    family_of,
    load_named_plugins,
    load_plugin,
    register,
)
from analysis.retrieval.interventions.settings import Setting, choice, flag, number, whole
from analysis.retrieval.interventions.step import (
    ChoosesEmbeddings,
    CorrectsSimilarities,
    JoinsModels,
    MapsRows,
    Offer,
    Step,
    WeighsConcepts,
)
from analysis.retrieval.ranking.transforms import Affine

# isort: split
# The steps come behind what they are made of, so that a file here may import from this package, as a plugin does.
from analysis.retrieval.interventions.all_but_the_top import AllButTheTop
from analysis.retrieval.interventions.bimodal import KeepBimodal
from analysis.retrieval.interventions.centring import Centring
from analysis.retrieval.interventions.concept_space import ConceptSpace
from analysis.retrieval.interventions.csls import CSLS
from analysis.retrieval.interventions.edit import Edit
from analysis.retrieval.interventions.fusion import Fusion
from analysis.retrieval.interventions.inverted_softmax import InvertedSoftmax
from analysis.retrieval.interventions.nnn import NNN
from analysis.retrieval.interventions.pool import VARIANT_LABELS, Pool
from analysis.retrieval.interventions.principal_components import PrincipalComponents
from analysis.retrieval.interventions.qb_norm import QBNorm
from analysis.retrieval.interventions.realign import ReAlign
from analysis.retrieval.interventions.removal import Removal
from analysis.retrieval.interventions.rerank import Rerank
from analysis.retrieval.interventions.sae_edit import SaeEdit
from analysis.retrieval.interventions.sinkhorn import Sinkhorn
from analysis.retrieval.interventions.untrained_removal import UntrainedRemoval

for _kind in (
    Removal, UntrainedRemoval, ReAlign, Centring, PrincipalComponents, AllButTheTop, NNN, CSLS, InvertedSoftmax, QBNorm,
    Sinkhorn, Pool, Edit, SaeEdit, KeepBimodal, ConceptSpace, Fusion, Rerank,
):  # fmt: skip
    register(_kind)

from analysis.retrieval.interventions.intervention import BASE, Intervention, parse  # noqa: E402  # needs the kinds

__all__ = [
    "BASE", "CSLS", "KINDS", "NNN", "VARIANT_LABELS", "Affine", "AllButTheTop", "Centring", "ChoosesEmbeddings",
    "ConceptSpace", "CorrectsSimilarities", "Edit", "Fusion", "Intervention", "InvertedSoftmax", "JoinsModels", "KeepBimodal",
    "MapsRows", "Offer", "Pool", "PrincipalComponents", "QBNorm", "ReAlign", "Removal", "Rerank", "SaeEdit", "Setting",
    "Sinkhorn", "Step", "UntrainedRemoval", "WeighsConcepts", "choice", "families", "family_of", "flag", "load_named_plugins",
    "load_plugin", "number", "parse", "register", "whole",
]  # fmt: skip
