"""Evaluation episodes of cart-pole as pictures: recording -> frames -> mp4 or film strip.

Runs in a light rendering process: NumPy, Pillow, safetensors and the ffmpeg binary of
imageio-ffmpeg, never JAX. Lengths are in metres, angles in radians with 0 upright and positive to
the right, pictures in pixels with y pointing down.
"""

import json
import math
import os
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import imageio_ffmpeg
import numpy as np
import safetensors
import safetensors.numpy
from PIL import Image, ImageDraw, ImageFont

from rlcore.files import replacing

EPISODES = 3
FRAMES_PER_SECOND = 50
CAPTIONS = ("hanging start", "any angle", "any angle")
LEFT_THE_RAIL = "left the rail"
ENDED_EARLY = "ended early"

_FORMAT = "shapesweep recording"
_SCHEMA = "2"
_ARRAYS = ("states", "actions", "score_rates", "lengths")
_SCALARS = ("dt", "rail", "pole_length")
SMALLEST, LARGEST = 1e-4, 1e4  # s or m: beyond them nothing can be drawn
_READ_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

_PAGE = (228, 232, 237)
_PANEL = (252, 252, 251)
_RAIL = (186, 194, 204)
_CART = (47, 62, 84)
_POLE = (226, 122, 63)
_FORCE = (62, 143, 176)
_TRACK = (231, 235, 239)
_INK = (31, 41, 55)
_MUTED = (124, 135, 150)
_ALARM = (181, 66, 60)

_GAP = 20
_STRIP_GAP = 6
_DIMMED = 0.5


@dataclass(frozen=True, eq=False)
class Recording:
    """Three deterministic evaluation episodes over a task's full horizon of T simulation steps.

    Episode 0 counts for the score, episodes 1 and 2 start as in training. An array may be of any
    floating type (`lengths`: any integer type); float32 is what the evaluation produces.

    Attributes:
        states: (T + 1, 3, 4), columns x (m), x_dot (m/s), theta (rad, 0 upright), theta_dot
            (rad/s); `states[t + 1]` is `states[t]` after `actions[t]`.
        actions: (T, 3), what the policy asked for, unclipped; +-1 is the full force.
        score_rates: (T, 3), the task's score rate in [0, 1]; zero after termination.
        lengths: (3,), simulation steps up to and including the terminating one; T if the
            episode ran to the horizon.
        dt: duration of a simulation step, s.
        rail: half width of the rail, m.
        pole_length: full length of the pole, m.
        captions: how each episode began, drawn above it; one line each.

    Raises:
        ValueError: an array's type, shape or range, or a scalar, is not as above.
    """

    states: np.ndarray
    actions: np.ndarray
    score_rates: np.ndarray
    lengths: np.ndarray
    dt: float
    rail: float
    pole_length: float
    captions: tuple[str, str, str] = CAPTIONS

    def __post_init__(self) -> None:
        """Checks types, then shapes, then values."""
        for name in _ARRAYS:
            _check_kind(name, getattr(self, name), integer=name == "lengths")
        steps = max(1, len(self.actions)) if self.actions.ndim else 1
        _check_shape("actions", self.actions, (steps, EPISODES))
        _check_shape("states", self.states, (steps + 1, EPISODES, 4))
        _check_shape("score_rates", self.score_rates, (steps, EPISODES))
        _check_shape("lengths", self.lengths, (EPISODES,))
        for name in _SCALARS:
            value = getattr(self, name)
            if not SMALLEST <= value <= LARGEST:
                raise ValueError(
                    f"`{name}` is {value!r}, but must be a positive number, from {SMALLEST:g} to"
                    f" {LARGEST:g}."
                )
        _check_values(self)

    @property
    def horizon(self) -> int:
        """T, in simulation steps."""
        return len(self.actions)


def save_recording(path: str | os.PathLike[str], recording: Recording) -> None:
    """Writes a recording as one safetensors file; the file appears whole or not at all.

    Args:
        path: the file, replaced if it exists; its folder must exist.
        recording: what to write. Arrays keep their type and every bit.

    Raises:
        OSError: the file cannot be written. Nothing is left behind, an earlier file is intact.
    """
    arrays = {name: np.ascontiguousarray(getattr(recording, name)) for name in _ARRAYS}
    scalars = {name: repr(float(getattr(recording, name))) for name in _SCALARS}
    texts = scalars | {"captions": json.dumps(recording.captions)}
    metadata = {"format": _FORMAT, "schema": _SCHEMA, "crc32": _checksum(arrays, texts)} | texts
    with replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata))


def load_recording(path: str | os.PathLike[str]) -> Recording:
    """Returns the recording that `save_recording` wrote, bit for bit.

    Args:
        path: the file to read.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is damaged, holds something else, or has another schema version.
    """
    with open(path, "rb"):
        pass  # a missing file, a folder: Python's words for them are clearer than safetensors'
    try:
        arrays, metadata = _read_safetensors(path)
    except (safetensors.SafetensorError, *_READ_ERRORS) as error:
        raise _unreadable(path, "is damaged or not a recording") from error
    if metadata.get("format") != _FORMAT:
        raise _unreadable(path, "is not a recording of shapesweep")
    if metadata.get("schema") != _SCHEMA:
        found = f"has recording schema {metadata.get('schema')!r}, not the {_SCHEMA!r} read here"
        raise _unreadable(path, found)
    try:
        texts = {name: metadata[name] for name in (*_SCALARS, "captions")}
        if metadata["crc32"] != _checksum(arrays, texts):
            raise ValueError("its checksum does not match")
        fields: dict[str, Any] = {**arrays, **{name: float(texts[name]) for name in _SCALARS}}
        return Recording(**fields, captions=tuple(json.loads(texts["captions"])))
    except _READ_ERRORS as error:
        raise _unreadable(path, f"is damaged ({error})") from error


def score_so_far(score_rates: np.ndarray) -> np.ndarray:
    """Returns the score collected by each moment, whole numbers in 0..1000, shape (T + 1, N).

    Row t is 1000 / T times the sum of the first t rates, rounded: it starts at 0 and ends at the
    episode's score.

    Args:
        score_rates: (T, N), in [0, 1], zero after termination.
    """
    collected = np.cumsum(score_rates, axis=0, dtype=np.float64)
    scores = np.rint(1000.0 * collected / len(score_rates)).astype(np.int64)
    return np.concatenate([np.zeros_like(scores[:1]), scores])


def frames(recording: Recording) -> Iterator[np.ndarray]:
    """Yields the video's frames in order, uint8 RGB of shape (300, 1240, 3).

    There is a frame every 0.02 s of simulated time (every simulation step where `dt` is longer),
    starting with the initial states: real time where `dt` divides 0.02 s. An episode that has
    ended stands still.

    Args:
        recording: the episodes; each gets a panel of 400 x 300, left to right.
    """
    layout = _VIDEO_PANEL
    scores = score_so_far(recording.score_rates)
    stride = max(1, round(1 / (FRAMES_PER_SECOND * recording.dt)))
    pitch = layout.width + _GAP
    canvas = Image.new("RGB", (EPISODES * pitch - _GAP, layout.height), _PAGE)
    drawn = [-1] * EPISODES
    for step in range(0, recording.horizon + 1, stride):
        for episode in range(EPISODES):
            moment = _moment(recording, scores, episode, step)
            if moment.step != drawn[episode]:
                canvas.paste(_draw_panel(layout, moment), (episode * pitch, 0))
                drawn[episode] = moment.step
        yield np.asarray(canvas)


def write_video(path: str | os.PathLike[str], recording: Recording) -> None:
    """Writes the three episodes side by side as an mp4: H.264, yuv420p, 1240 x 300, 50 frames/s.

    The file appears whole or not at all. 500 steps take about 2 s on one core.

    Args:
        path: the file, replaced if it exists; its folder must exist.
        recording: the episodes to show.

    Raises:
        OSError: the file cannot be written, or ffmpeg failed. Nothing is left behind, an earlier
            file is intact.
    """
    with replacing(path) as temporary:
        _encode(frames(recording), temporary)


def write_film_strip(
    path: str | os.PathLike[str], recording: Recording, *, episode: int = 0, count: int = 8
) -> None:
    """Writes moments of one episode, evenly spread over its time, side by side as a PNG.

    The first moment is the start, the last the episode's end. Panels are 200 x 150, 6 px apart.

    Args:
        path: the file, replaced if it exists; its folder must exist.
        recording: the episodes.
        episode: which of them, 0 to 2.
        count: how many moments, at least 2.

    Raises:
        ValueError: `episode` or `count` is out of range.
        OSError: the file cannot be written. Nothing is left behind, an earlier file is intact.
    """
    if not 0 <= episode < EPISODES:
        raise ValueError(f"`episode` is {episode}, but must be 0 to {EPISODES - 1}.")
    if count < 2:
        raise ValueError(f"`count` is {count}, but a film strip needs at least 2 moments.")
    layout = _STRIP_PANEL
    scores = score_so_far(recording.score_rates)
    pitch = layout.width + _STRIP_GAP
    strip = Image.new("RGB", (count * pitch - _STRIP_GAP, layout.height), _PAGE)
    steps = np.rint(np.linspace(0, recording.lengths[episode], count)).astype(int)
    for column, step in enumerate(steps.tolist()):
        moment = _moment(recording, scores, episode, step)
        if column:
            moment = replace(moment, caption="")  # said once
        strip.paste(_draw_panel(layout, moment), (column * pitch, 0))
    with replacing(path) as temporary:
        strip.save(temporary, format="PNG")


def _check_kind(name: str, value: object, *, integer: bool) -> None:
    wanted, kind = ("an integer", np.integer) if integer else ("a floating-point", np.floating)
    if not isinstance(value, np.ndarray):
        raise ValueError(f"`{name}` is a {type(value).__name__}, but must be a NumPy array.")
    if not np.issubdtype(value.dtype, kind):
        raise ValueError(f"`{name}` has dtype {value.dtype}, but must be {wanted} array.")


def _check_shape(name: str, value: np.ndarray, wanted: tuple[int, ...]) -> None:
    if value.shape != wanted:
        raise ValueError(
            f"`{name}` has shape {value.shape}, but must have {wanted}: "
            f"time first, {EPISODES} episodes, a state more than there are actions."
        )


def _check_values(recording: Recording) -> None:
    lengths, steps = recording.lengths, recording.horizon
    if not np.all((lengths >= 1) & (lengths <= steps)):
        raise ValueError(f"`lengths` is {lengths.tolist()}, but each must be 1 to {steps}.")
    lived = np.arange(steps + 1)[:, None] <= lengths
    # The states after an episode's end are never shown; a simulation may run on to anything there.
    if not np.all(np.isfinite(recording.states[lived])):
        raise ValueError("`states` has values that are not finite before an episode's end.")
    if not np.all(np.isfinite(recording.actions[lived[1:]])):
        raise ValueError("`actions` has values that are not finite before an episode's end.")
    rates = recording.score_rates
    if not np.all((rates >= 0) & (rates <= 1)):
        raise ValueError("`score_rates` has values outside [0, 1].")
    if np.any(rates[~lived[1:]]):
        raise ValueError("`score_rates` must be zero after an episode's end (see `lengths`).")


def _read_safetensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _checksum(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    names = sorted(arrays)
    kinds = [(name, arrays[name].dtype.str, arrays[name].shape) for name in names]
    crc = zlib.crc32(repr((kinds, sorted(texts.items()))).encode())
    for name in names:
        crc = zlib.crc32(arrays[name].tobytes(), crc)
    return f"{crc:08x}"


def _unreadable(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(f"{os.fspath(path)} {what}; check the path, or record the episodes again.")


def _encode(pictures: Iterator[np.ndarray], path: Path) -> None:
    """Feeds frames of one size to ffmpeg, which writes `path`.

    imageio-ffmpeg's own writer ignores ffmpeg's exit status, so a full disk would pass as a video.
    """
    first = next(pictures)
    height, width, _ = first.shape
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(FRAMES_PER_SECOND), "-i", "-"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-crf", "20"]
    command += ["-bf", "0"]  # a tenth faster; these pictures gain little from B-frames
    # The index goes to the front of the file, so that a browser plays before it has it all.
    command += ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path.absolute())]
    with tempfile.TemporaryFile() as log:
        # A process group of its own: Ctrl-C is ours to answer, not ffmpeg's.  Not a session: each
        # has an even share of a core, so ffmpeg would slow down what trains.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            process_group=0,
        )
        try:
            _feed(process, first, pictures)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            log.seek(0)
            said = "; ".join(log.read(2000).decode(errors="replace").split("\n")).strip("; ")
            reason = said or f"it ended with status {process.returncode}"
            raise OSError(f"ffmpeg could not write a video in {path.parent}: {reason}")


def _feed(process: subprocess.Popen[bytes], first: np.ndarray, rest: Iterator[np.ndarray]) -> None:
    assert process.stdin is not None  # opened with PIPE
    try:
        with process.stdin as pipe:
            pipe.write(first.data)
            for picture in rest:
                pipe.write(picture.data)
    except BrokenPipeError:
        pass  # ffmpeg ended early: its exit status and log say why
    process.wait()


@dataclass(frozen=True)
class _Layout:
    """Where things stand in a panel; all in pixels."""

    width: int
    height: int
    margin: int
    rail_y: float
    edge: int  # kept free at the sides when the pole lies flat at the end of the rail
    rail_half_width: float
    cart: tuple[float, float]  # half width, half height
    pole_half_width: float
    label_size: int
    label_y: int  # baseline
    number_size: int
    number_y: int  # baseline
    force_y: float
    force_half_length: float
    force_half_width: float


_VIDEO_PANEL = _Layout(
    width=400,
    height=300,
    margin=20,
    rail_y=160.0,
    edge=10,
    rail_half_width=2.0,
    cart=(22.0, 12.0),
    pole_half_width=4.0,
    label_size=14,
    label_y=28,
    number_size=26,
    number_y=56,
    force_y=272.0,
    force_half_length=70.0,
    force_half_width=3.0,
)
_STRIP_PANEL = _Layout(
    width=200,
    height=150,
    margin=10,
    rail_y=82.0,
    edge=6,
    rail_half_width=1.25,
    cart=(11.0, 6.0),
    pole_half_width=2.25,
    label_size=12,
    label_y=18,
    number_size=16,
    number_y=35,
    force_y=138.0,
    force_half_length=36.0,
    force_half_width=2.0,
)


@dataclass(frozen=True)
class _Moment:
    """What one panel shows."""

    step: int
    time: float
    score: int
    x: float
    theta: float
    force: float
    caption: str
    ending: str
    rail: float
    pole_length: float


def _moment(recording: Recording, scores: np.ndarray, episode: int, step: int) -> _Moment:
    """Returns an episode's moment at a step, or its last one if it has ended by then."""
    length = int(recording.lengths[episode])
    step = min(step, length)
    x, _, theta, _ = recording.states[step, episode].tolist()
    action = float(recording.actions[min(step, length - 1), episode])
    ending = ""
    if step == length < recording.horizon:
        ending = LEFT_THE_RAIL if abs(x) > recording.rail else ENDED_EARLY
    return _Moment(
        step=step,
        time=step * recording.dt,
        score=int(scores[step, episode]),
        x=x,
        theta=theta,
        force=max(-1.0, min(1.0, action)),
        caption=recording.captions[episode],
        ending=ending,
        rail=recording.rail,
        pole_length=recording.pole_length,
    )


def _draw_panel(layout: _Layout, moment: _Moment) -> Image.Image:
    middle = layout.width / 2
    across = (middle - layout.edge) / (moment.rail + moment.pole_length)
    below = layout.force_y - layout.rail_y - 2 * layout.pole_half_width
    scale = min(across, below / moment.pole_length)
    panel = _background(layout, scale * moment.rail, moment.caption, bool(moment.ending)).copy()
    # A cart far beyond the rail is held at the panel's edge, where it can still be seen.
    offset = max(-middle, min(middle, scale * moment.x))
    hinge = (middle + offset, layout.rail_y)
    reach = scale * moment.pole_length
    tip = (hinge[0] + reach * math.sin(moment.theta), hinge[1] - reach * math.cos(moment.theta))
    pushed = (middle + layout.force_half_length * moment.force, layout.force_y)

    fade = _DIMMED if moment.ending else 0.0
    half_width, half_height = layout.cart
    left, right = (hinge[0] - half_width, hinge[1]), (hinge[0] + half_width, hinge[1])
    _draw_bar(panel, _faded(_CART, fade), left, right, half_height, corner=0.4 * half_height)
    _draw_bar(panel, _faded(_POLE, fade), hinge, tip, layout.pole_half_width)
    _draw_bar(panel, _PANEL, hinge, hinge, 0.45 * layout.pole_half_width)
    centre = (middle, layout.force_y)
    _draw_bar(panel, _faded(_FORCE, fade), centre, pushed, layout.force_half_width)
    _draw_readings(panel, layout, moment)
    return panel


def _draw_readings(panel: Image.Image, layout: _Layout, moment: _Moment) -> None:
    ink = _faded(_INK, _DIMMED) if moment.ending else _INK
    row = {"baseline": layout.number_y, "size": layout.number_size}
    _draw_text(panel, ink, str(moment.score), x=layout.margin, align="left", **row)
    right = layout.width - layout.margin
    _draw_text(panel, ink, f"{moment.time:.2f} s", x=right, align="right", **row)
    if moment.ending:
        row["size"] = layout.label_size
        _draw_text(panel, _ALARM, moment.ending, x=layout.width // 2, align="middle", **row)


@lru_cache(maxsize=16)
def _background(layout: _Layout, half_rail: float, caption: str, ended: bool) -> Image.Image:
    """Returns what does not move: rail with its stops and centre, force track, labels."""
    panel = Image.new("RGB", (layout.width, layout.height), _PANEL)
    middle = layout.width / 2
    fade = _DIMMED if ended else 0.0
    left, right, rail_y = middle - half_rail, middle + half_rail, layout.rail_y
    stop, rail_colour = 1.25 * layout.cart[1], _faded(_RAIL, fade)
    _draw_bar(panel, rail_colour, (left, rail_y), (right, rail_y), layout.rail_half_width)
    for x, tick in ((left, stop), (middle, 0.35 * stop), (right, stop)):
        ends = (x, rail_y - tick), (x, rail_y + tick)
        _draw_bar(panel, rail_colour, *ends, layout.rail_half_width)
    start = (middle - layout.force_half_length, layout.force_y)
    end = (middle + layout.force_half_length, layout.force_y)
    _draw_bar(panel, _TRACK, start, end, layout.force_half_width)

    ink, size, right = _faded(_MUTED, fade), layout.label_size, layout.width - layout.margin
    row = {"baseline": layout.label_y, "size": size}
    _draw_text(panel, ink, "score", x=layout.margin, align="left", **row)
    _draw_text(panel, ink, caption, x=layout.width // 2, align="middle", **row)
    _draw_text(panel, ink, "time", x=right, align="right", **row)
    row["baseline"] = round(layout.force_y - 0.7 * size)
    _draw_text(panel, ink, "force", x=layout.width // 2, align="middle", **row)
    return panel


def _faded(colour: tuple[int, int, int], amount: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + amount * (b - a)) for a, b in zip(colour, _PANEL, strict=True))
    return red, green, blue


def _draw_bar(
    panel: Image.Image,
    colour: tuple[int, int, int],
    start: tuple[float, float],
    end: tuple[float, float],
    half_width: float,
    *,
    corner: float | None = None,
) -> None:
    """Draws an antialiased straight bar with rounded corners, to a fraction of a pixel.

    A pixel's cover is half a pixel minus its centre's signed distance to the bar's outline.

    Args:
        panel: drawn on; what falls outside is cut off.
        colour: RGB.
        start: one end of the centre line, (x, y) in pixels.
        end: the other end; the same point gives a disc.
        half_width: half the thickness, in pixels.
        corner: radius of the corners; None for round ends, centred on `start` and `end`.
    """
    (x0, y0), (x1, y1) = start, end
    length = math.hypot(x1 - x0, y1 - y0)
    along_x, along_y = ((x1 - x0) / length, (y1 - y0) / length) if length else (1.0, 0.0)
    inner = half_width if corner is None else corner
    half_length = length / 2 if corner is None else length / 2 - corner
    left, top = math.floor(min(x0, x1) - half_width) - 1, math.floor(min(y0, y1) - half_width) - 1
    columns = math.ceil(max(x0, x1) + half_width) + 1 - left
    rows = math.ceil(max(y0, y1) + half_width) + 1 - top
    dx = np.arange(columns, dtype=np.float32) + np.float32(left + 0.5 - (x0 + x1) / 2)
    dy = np.arange(rows, dtype=np.float32)[:, None] + np.float32(top + 0.5 - (y0 + y1) / 2)
    beyond = np.maximum(np.abs(dx * along_x + dy * along_y) - half_length, 0)
    aside = np.maximum(np.abs(dy * along_x - dx * along_y) - (half_width - inner), 0)
    cover = np.clip(inner + 0.5 - np.sqrt(beyond * beyond + aside * aside), 0, 1)
    mask = Image.fromarray((255 * cover + 0.5).astype(np.uint8))
    panel.paste(colour, (left, top, left + columns, top + rows), mask)


def _draw_text(
    panel: Image.Image,
    colour: tuple[int, int, int],
    text: str,
    *,
    x: int,
    baseline: int,
    size: int,
    align: Literal["left", "middle", "right"],
) -> None:
    mask, ascent = _text_mask(text, size)
    left = x - {"left": 0, "middle": mask.width // 2, "right": mask.width}[align]
    panel.paste(colour, (left, baseline - ascent), mask)


@lru_cache(maxsize=4096)
def _text_mask(text: str, size: int) -> tuple[Image.Image, int]:
    """Returns a text's cover (mode L) and the baseline's row in it.

    Kept, because a video says most of its numbers many times and setting type is slow.
    """
    font = ImageFont.load_default(size=size)
    ascent, descent = size, math.ceil(size / 3)  # enough for Pillow's own font
    mask = Image.new("L", (max(1, math.ceil(font.getlength(text))), ascent + descent))
    ImageDraw.Draw(mask).text((0, ascent), text, 255, font, anchor="ls")
    return mask, ascent
