"""The three losses of Lens, as means over the dimensions of a hidden state, per item.

h is the hidden state of the trained model at the last token of a prompt; h_ref is that of the untrained
model. P_a and P_s are the projectors on the agnostic line and on the specific subspace. mean_t is the mean
over the tokens of a prompt. The losses are (Lens, equations of section 3.2):

- align:    mean((P_a h(x_central) - P_a h(x_l))^2)
- separate: mean((P_s h(x_l) - P_s h_ref(x_l) - displacement_l * direction_l)^2)
- retain:   mean((mean_t h(x_central) - mean_t h_ref(x_central))^2)

With `scale_free`, align and separate read a state in units of its layer (`Units`). For the last layer that is
the normed state, before the gain of the final norm. The gains of one real model range from 0.2 to 300. After
these gains, a few dimensions dominate a mean of squares, one language's direction is eight times as long as
another's, and a loss that starts at 6 in one model starts at 660 in the next. Before the gains, every state
has mean square 1. The retain loss reads the state after the gains, because the dimensions with large gains
decide the next token. Every term is divided by the median over languages of the mean square of a direction.
So a term of 1 means, in every model, that a state is off by the length of the median direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_eval.base.errors import UserError
from lens_train.config import LensConfig
from lens_train.decoder import Decoder
from lens_train.subspace import Subspaces


def align_loss(central: Tensor, other: Tensor, line: Tensor) -> Tensor:
    """Squared distance of two prompts along the agnostic line; the released code calls this loss push.

    Args:
        central: hidden states of the central prompts, (items, layers, width).
        other: hidden states of their translations, (items, layers, width).
        line: unit vector per layer, (layers, width).

    Returns:
        (items,)
    """
    along = ((central - other) * line).sum(dim=-1, keepdim=True) * line
    return along.square().mean(dim=(1, 2))


def separate_loss(states: Tensor, reference: Tensor, basis: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the specific part from its target; the released code calls this loss pull.

    Args:
        states: hidden states, (items, layers, width).
        reference: those of the untrained model, same shape.
        basis: orthonormal rows per layer, (layers, rank, width).
        target: wanted displacement from the reference, (layers, width).

    Returns:
        (items,)
    """
    coordinates = torch.einsum("blw,lrw->blr", states - reference, basis)
    moved = torch.einsum("blr,lrw->blw", coordinates, basis)
    return (moved - target).square().mean(dim=(1, 2))


def retain_loss(states: Tensor, reference: Tensor) -> Tensor:
    """Squared distance from the untrained model, for one item.

    Args:
        states: hidden states, (layers, width) for the mean over tokens, or (layers, tokens, width).
        reference: those of the untrained model, same shape.

    Returns:
        A scalar.
    """
    return (states - reference).square().mean()


@dataclass(frozen=True)
class Units:
    """Units of the hidden states of some layers: h = gain * state + offset; (layers, width) each."""

    gain: Tensor
    offset: Tensor

    @staticmethod
    def of(decoder: Decoder, layers: Sequence[int], means: Mapping[str, Tensor]) -> Units:
        """For the last layer, gain and offset of the final norm; for any other, the size of its mean states.

        Args:
            decoder: the untrained model.
            layers: layers whose states are measured, counted from 0.
            means: language -> mean state, (all layers, width).
        """
        norm = decoder.final_norm()
        size = torch.stack([mean.double() for mean in means.values()]).square().mean(dim=(0, 2)).sqrt()
        gains, offsets = [], []
        for layer in layers:
            if layer == len(decoder) - 1 and norm is not None:
                gains.append(norm[0])
                offsets.append(norm[1])
            else:
                gains.append(size[layer].clamp(min=1e-12).expand(decoder.width))
                offsets.append(torch.zeros(decoder.width, dtype=torch.float64))
        return Units(torch.stack(gains), torch.stack(offsets))

    def __call__(self, states: Tensor) -> Tensor:
        """Convert hidden states to these units, (layers, ..., width)."""
        shape = (self.gain.shape[0], *[1] * (states.ndim - 2), self.gain.shape[1])
        return (states - self.offset.to(states).view(shape)) / self.gain.to(states).view(shape)

    def subspaces(self, found: Subspaces, layers: Sequence[int], central: str) -> Subspaces:
        """The subspaces of the layers' mean states in these units.

        Raises:
            UserError: an older version saved the subspaces, without the means.
        """
        if not found.means:
            raise UserError(
                "these subspaces hold no mean states: an older version made them. Run `lens probe` again, or "
                "train with scale_free=false"
            )
        means = {code: self(mean[list(layers)]) for code, mean in found.means.items()}
        return Subspaces.from_means(means, central, found.specific.shape[1], found.identity)


@dataclass(frozen=True)
class Objective:
    """The sum of the weighted losses over languages."""

    config: LensConfig
    line: Tensor
    """(layers, width)"""
    basis: Tensor
    """(layers, rank, width)"""
    targets: Mapping[str, Tensor]
    """Language -> displacement * direction, (layers, width)."""
    units: Units | None = None
    """Units of the states of `align` and `separate`; None = the unchanged states, as released."""
    wanted: tuple[float, float] = (1.0, 1.0)
    """Divisors of the terms: the median over languages of the mean square of the direction, in units (for
    `align` and `separate`) and without units (for `retain`). (1, 1) as released."""

    @staticmethod
    def make(
        config: LensConfig,
        subspaces: Subspaces,
        layers: Sequence[int],
        device: torch.device,
        units: Units | None = None,
    ) -> Objective:
        """Take what the losses need from the subspaces of `layers`, the layers that they read.

        Raises:
            UserError: `units` are given, but the subspaces hold no mean states.
        """
        places, wanted = list(layers), (1.0, 1.0)
        if units is not None:
            plain = _middle({code: subspaces.directions[code][places] for code in config.others})
            subspaces, places = units.subspaces(subspaces, layers, config.central), list(range(len(places)))
            units = Units(units.gain.float().to(device), units.offset.float().to(device))
            wanted = (_middle({code: subspaces.directions[code] for code in config.others}), plain)
        common = subspaces.agnostic[places]
        line = common / common.norm(dim=-1, keepdim=True)
        targets = {
            code: config.displacement_of(code) * subspaces.directions[code][places] for code in config.others
        }
        return Objective(
            config,
            line.float().to(device),
            subspaces.specific[places].float().to(device),
            {code: target.float().to(device) for code, target in targets.items()},
            units,
            wanted,
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages whose prompts the losses need."""
        config = self.config
        if config.align_weight:
            return config.languages
        central = (config.central,) if config.retain_weight else ()
        return central + (config.others if config.separate_weight else ())

    def reads_all(self, language: str) -> bool:
        """Whether a loss reads the states of all tokens of a prompt in `language`, not only the last one."""
        return language == self.config.central and bool(self.config.retain_weight)

    def keep(self, states: Tensor, language: str) -> tuple[Tensor, Tensor | None]:
        """The states of one prompt that the losses read: the last token's state, and the states to retain.

        Args:
            states: hidden states, (layers, tokens, width).
            language: language of the prompt.
        """
        last = states[:, -1] if self.units is None else self.units(states[:, -1])
        if not self.reads_all(language):
            return last, None
        if self.config.retain_over == "mean":
            return last, states.mean(dim=1)
        return last, states

    def retained(self, now: Tensor | None, then: Tensor | None) -> Tensor:
        """The retain loss of one central prompt, from the states that `keep` returned for it.

        Args:
            now: those of the trained model.
            then: those of the untrained model.
        """
        assert now is not None
        assert then is not None
        loss = retain_loss(now, then)
        if self.config.retain_over == "reply":
            loss = loss + retain_loss(now[:, -1], then[:, -1])
        return loss

    def terms(
        self,
        states: Mapping[str, Sequence[tuple[Tensor, Tensor | None]]],
        reference: Mapping[str, Sequence[tuple[Tensor, Tensor | None]]],
    ) -> dict[str, Tensor]:
        """Compute each term of each item, without its weight.

        Args:
            states: language -> what `keep` returned for each item.
            reference: the same for the untrained model.

        Returns:
            `retain`, `separate.<language>`, `align.<language>` -> (items,).
        """
        config = self.config
        last = {code: torch.stack([prompt[0] for prompt in prompts]) for code, prompts in states.items()}
        terms: dict[str, Tensor] = {}
        if config.retain_weight:
            pairs = zip(states[config.central], reference[config.central], strict=True)
            losses = [self.retained(now[1], then[1]) for now, then in pairs]
            terms["retain"] = torch.stack(losses) / self.wanted[1]
        for code in config.others:
            if config.separate_weight:
                before = torch.stack([prompt[0] for prompt in reference[code]])
                moved = separate_loss(last[code], before, self.basis, self.targets[code])
                terms[f"separate.{code}"] = moved / self.wanted[0]
            if config.align_weight:
                apart = align_loss(last[config.central], last[code], self.line)
                terms[f"align.{code}"] = apart / self.wanted[0]
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the terms; (items,)."""
        weights = {
            "retain": self.config.retain_weight or 0.0,
            "separate": self.config.separate_weight,
            "align": self.config.align_weight,
        }
        return torch.stack([weights[name.partition(".")[0]] * term for name, term in terms.items()]).sum(
            dim=0
        )


def _middle(directions: Mapping[str, Tensor]) -> float:
    """Median over languages of the mean square of the direction; never 0."""
    sizes = torch.stack([direction.double().square().mean() for direction in directions.values()])
    return max(float(sizes.quantile(0.5)), torch.finfo(torch.float32).tiny)
