"""The law forms: importing this package registers them all."""

from analysis.laws import breaks as breaks
from analysis.laws import classical as classical
from analysis.laws import downstream as downstream
from analysis.laws import kaplan as kaplan
from analysis.laws import learning_curves as learning_curves
from analysis.laws import lr_batch as lr_batch
from analysis.laws import precision as precision
from analysis.laws import repeated_data as repeated_data
from analysis.laws import size_and_data as size_and_data
from analysis.laws import sparse as sparse
from analysis.laws.law import LAWS as LAWS
from analysis.laws.law import Law as Law
from analysis.laws.law import Range as Range
from analysis.laws.law import get_law as get_law
from analysis.laws.law import register as register
