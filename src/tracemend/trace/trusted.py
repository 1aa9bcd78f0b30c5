"""What the clean validation set says of the training labels, in the kernel of the adapter's gradients.

The mean cosine with the validation gradients is the kernel-mean classifier in the gradient kernel. A logistic
regression in the same kernel is the better classifier and needs nothing more: it is fitted on validation labels
alone, and a training label is suspect where the fit denies it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from tracemend.arrays import Floats, Indices
from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.threads import one_thread
from tracemend.trace.gradients import gradient_batches
from tracemend.tuning import TextClassifier


def label_free(cosines: Floats, rows: Indices, columns: Indices) -> Floats:
    """The cosine kernel of the margin's gradients from the cosines of loss gradients [n, m]; two labels.

    With two labels the loss gradient is (p - y) times the gradient of the margin, so its direction is known up to a
    sign, and the labels give the sign.

    Args:
        cosines: TracIn cosines at one checkpoint [n, m].
        rows, columns: label indices of either side, [n] and [m].

    Example:
        >>> label_free(np.array([[1.0, -1.0]]), np.array([0]), np.array([0, 1]))
        array([[1., 1.]])
    """
    found: Floats = np.where(rows[:, None] == columns[None, :], cosines, -cosines)
    return found


def head_inputs(
    classifier: TextClassifier, data: Labelled, *, batch_size: int = 16, progress: Progress = Progress()
) -> npt.NDArray[np.float32]:
    """Unit directions of what the head reads of each example [n, D + 1], for any number of labels.

    The head's gradient is (p - e_y) times its input; the row of the example's own label has a negative residual.

    Raises:
        TraceError: the classifier has no head (it classifies by words).
    """
    if classifier.verbaliser is not None:
        raise TraceError(f"{classifier.language_model.name} classifies by words and has no head; use embeddings.")
    labels = len(classifier.labels)
    found: npt.NDArray[np.float32] | None = None
    for rows, part in gradient_batches(classifier, data, batch_size=batch_size, progress=progress, check=False):
        head = part.only(("head",))
        grads = head.grads.numpy()
        blocks = [grads[:, b.columns].reshape(len(part), labels, -1) for b in head.layout]
        own = np.concatenate([b[np.arange(len(part)), part.y] for b in blocks], axis=1)
        if found is None:
            found = np.zeros((len(data), own.shape[1]), dtype=np.float32)
        found[rows] = -own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-20)
    if found is None:
        raise TraceError("there are no examples to trace.")
    return found


def trusted_probabilities(
    kernel: Floats, trusted_kernel: Floats, trusted_y: Indices, labels: int, *, strength: float = 10.0
) -> npt.NDArray[np.float64]:
    """Probability of each label for each example [n, labels], from a fit on the trusted examples alone.

    Kernel logistic regression: by the representer theorem the fit lies in the span of the trusted examples, so that
    coordinates in that span are all it needs, whatever the number of parameters.

    Args:
        kernel: similarity of the examples in question to the trusted ones [n, m].
        trusted_kernel: of the trusted ones among themselves [m, m], positive semi-definite.
        trusted_y: their label indices [m].
        labels: how many labels there are.
        strength: scikit-learn's C.

    Returns:
        Rows that add up to one; a label that the trusted set lacks has probability zero.

    Raises:
        TraceError: the trusted set has one label only.
    """
    _refuse_one_label(trusted_y)
    values, vectors = np.linalg.eigh((trusted_kernel + trusted_kernel.T) / 2)
    kept = values > 1e-6 * values.max()
    basis = vectors[:, kept] / np.sqrt(values[kept])
    return _by_fit(trusted_kernel @ basis, trusted_y, kernel @ basis, labels, strength)


def fitted_probabilities(
    features: Floats, trusted: Floats, trusted_y: Indices, labels: int, *, strength: float = 10.0
) -> npt.NDArray[np.float64]:
    """:func:`trusted_probabilities` in the linear kernel of features that are at hand: no kernel of n by m is made.

    Args:
        features: of the examples in question [n, D].
        trusted: of the trusted ones [m, D].
        trusted_y, labels, strength: as there.

    Raises:
        TraceError: the trusted set has one label only.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> fitted_probabilities(x, x, np.array([0, 0, 1, 1]), 2).argmax(axis=1)
        array([0, 0, 1, 1])
    """
    _refuse_one_label(trusted_y)
    return _by_fit(trusted, trusted_y, features, labels, strength)


def _refuse_one_label(trusted_y: Indices) -> None:
    if len(np.unique(trusted_y)) < 2:
        raise TraceError("the validation set has one label only; it needs two at least to judge labels by.")


def _by_fit(x: Floats, y: Indices, asked: Floats, labels: int, strength: float) -> npt.NDArray[np.float64]:
    with one_thread():
        fit = LogisticRegression(C=strength, max_iter=2000).fit(x, y)
    found = np.zeros((len(asked), labels))
    found[:, fit.classes_] = fit.predict_proba(asked)
    return found
