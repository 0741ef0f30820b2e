"""Language subspaces: what the languages share and how they differ, per layer.

The columns of W (width x languages) are the mean hidden states of the languages. W is split into a common
vector m and a low-rank rest: W = m 1' + S G', with m orthogonal to S (Lens, section 3.1; the split is that of
LSAR, Xie et al. 2022). The line along m is the agnostic subspace; the span of S is the specific subspace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_eval.base.files import write_text
from lens_eval.base.reading import read_object, shaped
from lens_train.files import read_tensors, write_tensors

TENSORS = "subspace.safetensors"
RECORD = "subspace.json"


def split(means: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Split the means of one layer into a common vector and a specific subspace.

    The first step is the best fit of that form: the mean of the means, and the `rank` largest singular
    directions of the remainder. The fit leaves m undetermined within its affine hull. The second step sets m
    to the point of the hull nearest to the origin, which is orthogonal to every difference between languages.

    Args:
        means: (languages, width).
        rank: 1 to languages - 1; at languages - 1 the fit is exact.

    Returns:
        Common vector, (width,), not normalised; orthonormal basis of the specific subspace, (rank, width).
    """
    means = means.double()
    centre = means.mean(dim=0)
    left, values, right = torch.linalg.svd(means - centre, full_matrices=False)
    fit = centre + (left[:, :rank] * values[:rank]) @ right[:rank]
    # pinv(W)' 1 is orthogonal to all differences of columns of W; scaling puts it into their affine hull.
    common = torch.linalg.pinv(fit) @ torch.ones(len(fit), dtype=fit.dtype)
    common = common / common.square().sum()
    specific = torch.linalg.svd(fit - common, full_matrices=False)[2][:rank]
    return common, specific


def project(states: Tensor, basis: Tensor) -> Tensor:
    """Project states (..., width) onto the span of the orthonormal rows of `basis` (rank, width)."""
    return states @ basis.T @ basis


def require_finite(states: Tensor, language: str) -> None:
    """Refuse states that are no finite numbers: every direction computed from them would be none either.

    Raises:
        UserError: naming the language.
    """
    if not bool(states.isfinite().all()):
        raise UserError(
            f"hidden states of prompts in {language!r} are NaN or infinite: the weights hold such numbers, "
            "or overflow in this dtype; try dtype=float32 or bfloat16, and `lens doctor`"
        )


@dataclass(frozen=True)
class Subspaces:
    """Subspaces of every layer of one model, and what they were computed from."""

    agnostic: Tensor
    """Common vector per layer, not normalised; (layers, width), float64."""
    specific: Tensor
    """Orthonormal basis of the specific subspace per layer; (layers, rank, width), float64."""
    directions: Mapping[str, Tensor]
    """Language -> specific part of (its mean - the central mean); (layers, width), float64."""
    identity: Mapping[str, Any]
    """Model, template, languages and settings of the probe."""
    means: Mapping[str, Tensor] = field(default_factory=dict)
    """Language -> mean hidden state; (layers, width), float64. Empty if an older version wrote the folder."""

    @staticmethod
    def from_means(
        means: Mapping[str, Tensor], central: str, rank: int, identity: Mapping[str, Any]
    ) -> Subspaces:
        """Compute the subspaces from the mean hidden states, language -> (layers, width).

        Raises:
            UserError: a mean is no finite number.
        """
        for code, mean in means.items():
            require_finite(mean, code)
        stacked = torch.stack([mean.double() for mean in means.values()])
        parts = [split(stacked[:, layer], rank) for layer in range(stacked.shape[1])]
        specific = torch.stack([part[1] for part in parts])
        directions = {
            code: torch.stack(
                [
                    project(mean[i].double() - means[central][i].double(), basis)
                    for i, basis in enumerate(specific)
                ]
            )
            for code, mean in means.items()
        }
        common = torch.stack([part[0] for part in parts])
        doubles = {code: mean.double() for code, mean in means.items()}
        return Subspaces(common, specific, directions, dict(identity), doubles)

    def save(self, folder: Path) -> None:
        """Write `subspace.safetensors`, then `subspace.json`; each file is replaced in one step."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"agnostic": self.agnostic, "specific": self.specific}
        tensors |= {f"direction.{code}": tensor for code, tensor in self.directions.items()}
        tensors |= {f"mean.{code}": tensor for code, tensor in self.means.items()}
        write_tensors(folder / TENSORS, tensors)
        write_text(
            folder / RECORD, json.dumps(self.identity, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        )

    @staticmethod
    def load(folder: Path) -> Subspaces:
        """Read a subspace folder.

        Raises:
            UserError: the folder holds no complete set of subspaces.
        """
        try:
            identity = read_object(Path(folder) / RECORD, "record of subspaces")
            tensors, _ = read_tensors(Path(folder) / TENSORS, "file of subspaces")
        except UserError as error:
            raise UserError(f"{folder} holds no subspaces ({error}); make them with `lens probe`") from None
        named: dict[str, dict[str, Tensor]] = {"direction": {}, "mean": {}}
        with shaped(folder, "folder of subspaces; make them with `lens probe`"):
            for name, value in tensors.items():
                kind, dot, code = name.partition(".")
                if dot:
                    named[kind][code] = value
            found = Subspaces(
                tensors["agnostic"], tensors["specific"], named["direction"], identity, named["mean"]
            )
            found._check()
            return found

    def _check(self) -> None:
        """Raise `ValueError` if the tensors do not belong together, or hold no numbers."""
        layers, width = self.agnostic.shape
        if self.specific.shape[::2] != (layers, width) or self.specific.ndim != 3:
            raise ValueError(f"bases of shape {tuple(self.specific.shape)}")
        for tensor in (*self.directions.values(), *self.means.values()):
            if tensor.shape != (layers, width):
                raise ValueError(f"a vector per layer of shape {tuple(tensor.shape)}")
        for tensor in (self.agnostic, self.specific, *self.directions.values(), *self.means.values()):
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise ValueError("values that are no numbers")

    def require_fitting(self, depth: int, width: int, languages: Sequence[str], rank: int) -> None:
        """Check that the tensors are those of a model of this size, and of these languages.

        Raises:
            UserError: they are not, though the record says so.
        """
        shape = (depth, rank, width)
        lacking = [code for code in languages if code not in self.directions]
        if tuple(self.specific.shape) != shape or lacking:
            raise UserError(
                f"these subspaces are damaged: bases of shape {tuple(self.specific.shape)}, where "
                f"{shape} were expected"
                + (f"; no direction of {', '.join(lacking)}" if lacking else "")
                + "; run `lens probe` again"
            )

    def require(self, expected: Mapping[str, Any]) -> None:
        """Check that every entry of `expected` equals that of the identity.

        Raises:
            UserError: an entry differs; the message names every such entry.
        """
        differing = [
            f"{key}: made with {self.identity.get(key)!r}, asked for {value!r}"
            for key, value in expected.items()
            if self.identity.get(key) != value
        ]
        if differing:
            raise UserError(
                f"these subspaces were made for something else ({'; '.join(differing)}); "
                "run `lens probe` with this model and these settings"
            )
