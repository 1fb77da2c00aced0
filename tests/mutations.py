"""Plant faults one at a time in a copy of the package, and see whether the tests near them fail.

usage: python tests/mutations.py [WORD ...]     (only those whose file or text holds one of the words)

Each is a threshold moved, a guard left out or a sign turned. SURVIVED means that no test failed, GONE that the code is
no longer there, BROKEN that the tests fail without it; any makes the exit status 1. Types are not checked meanwhile,
and what is compiled is left out, to be quick: some ten seconds each.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS.parent / "src"


class Faults(NamedTuple):
    """In a file of the package each `old` becomes its `new`; one of the tests must fail, with that backend of Keras."""

    file: str
    tests: str
    planted: dict[str, str]
    backend: str = "torch"


FAULTS = [
    Faults(
        "page/static/drawing.js",
        "page/test_drawing.py",
        {
            "(center - offset) / scale - 0.5": "(center - offset) / scale",
            "Math.min(f(2 * Math.abs(values[i])), 1)": "Math.min(f(Math.abs(values[i])), 1)",
            "f(0.55 * 255)": "f(0.5 * 255)",
            "depth[i] <= line ?": "depth[i] < line ?",
            "signed ? f(f(value + 1) / 2) : value": "value",
        },
    ),
    Faults("page/static/asking.js", "page/test_in_browser.py", {"api.cancel(id)": "Promise.resolve(id)"}),
    Faults(
        "results/left_out.py",
        "reports/test_report.py",
        {"if photo not in explained": "", "elif known:": "elif False:"},
    ),
    Faults("page/static/state.js", "page/test_in_browser.py", {'["opacity", ': "["}),
    Faults(
        "page/static/card.js",
        "page/test_in_browser.py",
        {"const key = `${enlarge} ${signed}`": "const key = `${signed}`", "[this.found, this.box": "[this.box"},
    ),
    Faults(
        "page/static/page.js",
        "page/test_in_browser.py",
        {
            'byId("photo-name").textContent': 'byId("photo-name").innerHTML',
            "each === null ? usualTarget(predictions[k]) : ": "",
            "targetOf(predictions[k], each)": "each",
            'byId("grid").replaceChildren();': "",
            "event.preventDefault(); // the": "// the",
            'byId("adding").textContent = `reading': 'byId("adding").title = `reading',
        },
    ),
    Faults(
        "page/networks.py",
        "page/test_networks.py",
        {"Region.from_text(label).of == label": "True", "labels.count(label) == 1": "True"},
    ),
    Faults(
        "page/static/prediction.js",
        "page/test_in_browser.py",
        {"if (error) return error;": "", "&& rows[0]?.share !== null": ""},
    ),
    Faults("page/asking.py", "page/test_networks.py", {"kept.named(str": "kept.photo(str"}),
    Faults(
        "page/guard.py",
        "page/test_guard.py",
        {
            "if self.token is None and _name(host) not in LOOPBACK:": "if False:",
            "urlsplit(origin).netloc.lower() != host.lower()": "urlsplit(origin).hostname != _name(host)",
            'not in (None, "same-origin", "none")': 'not in (None, "same-origin", "none", "same-site")',
            "self.token is not None and site == ": "site == ",
            'if method == "POST" and kind not in TYPES:': 'if method == "POST" and kind and kind not in TYPES:',
            'hmac.compare_digest(held.value.encode(), (self.token or "").encode())': "True",
            '"path": path[len(self.prefix) :]': '"path": path',
        },
    ),
    Faults(
        "page/uploads.py",
        "page/test_uploads.py",
        {
            "if count > limit:": "if count > 2 * limit:",
            "int(length) > limit:": "int(length) > 2 * limit:",
            "read_photo(data, max_pixels=most)": "read_photo(data)",
        },
    ),
    Faults(
        "page/jobs.py",
        "page/test_jobs.py",
        {
            "if len(waiting) >= self.most:": "if len(waiting) > self.most:",
            "if self.stopped:": "if False:",
            "self._lanes[job.lane].index(job) + running": "self._lanes[job.lane].index(job)",
            "self._known.values() if each.ended is not None]": "self._known.values()]",
        },
    ),
    Faults(
        "page/kept.py",
        "page/test_kept.py page/test_app.py",
        {
            "self._held.move_to_end(name)": "pass",
            "size - self._held.pop(name, (None, 0))[1]": "size",
            " and len(self._held) > 1:": ":",
            "if digest(data) != name:": "if False:",
            "tuple(each.on_photo_of(drawn.size) for each in places)": "tuple(each for each in places)",
        },
    ),
    Faults(
        "page/asking.py",
        "page/test_app.py",
        {
            "parse_target(text, own=False)": "parse_target(text)",
            "if isinstance(target, Similarity):": "if False:",
            "            method.check_options(methods[method.name])\n": "",
        },
    ),
    Faults(
        "page/networks.py",
        "page/test_networks.py page/test_app.py",
        {
            "box[0] * x + across": "box[0] + across",
            "(x - place.offset[1]) / place.scale[1]": "x",
            "values.float(), known.probability)": "values.float(), True)",
        },
    ),
    Faults(
        "engine/session.py",
        "page/test_jobs.py",
        {"            request.run.progress.tick()\n            picture": "            picture"},
    ),
    Faults("network/variants/tracing.py", "page/test_jobs.py", {"self.execution.progress.tick()": "pass"}),
    Faults(
        "reports/page.py",
        "reports/test_report.py",
        {
            "if math.isfinite(value):\n                found": "if value:\n                found",
            "[shown for image in images for shown in image.maps]": "[image.maps[0] for image in images]",
        },
    ),
    Faults(
        "reports/templates/report.js",
        "reports/test_in_browser.py",
        {
            'map.dataset.kind !== "" && ': "",
            '(kind !== "" && each.maps.every((map) => map.dataset.kind !== kind))': "false",
            "const other = ": "const other = false && ",
        },
    ),
    Faults(
        "reports/templates/report.css",
        "reports/test_in_browser.py",
        {"min(100%, 40rem * var(--shape))": "100%"},
    ),
    Faults(
        "results/layered.py",
        "reports/test_report.py results/test_notebook.py",
        {
            "scaled.where(raw.isfinite(), torch.nan)": "scaled",
            "raw.nan_to_num(0, 0, 0)": "raw",
            "signed=SIGNED in one.notes": "signed=False",
        },
    ),
    Faults(
        "engine/request.py",
        "reports/test_report.py",
        {"self.signed or None": "None", "fusion not in fusions.names()": "False"},
    ),
    Faults(
        "kit/templates.py",
        "reports/test_report.py",
        {"autoescape=True": "autoescape=False"},
    ),
    Faults(
        "results/layered.py",
        "reports/test_report.py",
        {"return len(context_of(self.one).size) == 2": "return len(context_of(self.one).size) != 3"},
    ),
    Faults(
        "results/reopened.py",
        "reports/test_report.py",
        {
            "or photo[0].size != geometry.photo_size:": "or False:",
            "if not same or ": "if ",
            "if beside.exists():": "if False:",
            "EOFError, FileNotFoundError) as": "FileNotFoundError) as",
        },
    ),
    Faults(
        "results/notebook.py",
        "results/test_notebook.py",
        {
            "for each, number in ones[:MOST]": "for each, number in ones",
            "more=len(ones) - MOST": "more=len(ones)",
            "Image.Resampling.NEAREST": "Image.Resampling.BILINEAR",
            "picture = inline.photo(made.overlay())": "picture = inline.photo(made.backdrop())",
        },
    ),
    Faults(
        "runs/reporting.py",
        "reports/test_report.py",
        {
            "if kind is not None:": "if True:",
            "failures=run.failures": "failures=()",
            "if len(rows) > most else []": "if False else []",
        },
    ),
    Faults(
        "runs/exporting.py",
        "reports/test_report.py runs/test_exports.py",
        {
            'return open_source(run.said["source"])': "raise KeyError",
            "if wanted is None or name in wanted:": "if True:",
        },
    ),
    Faults(
        "results/reproduce.py",
        "results/test_reproduce.py",
        {
            'if self.photo.startswith("-") else': "if False else",
            "return shlex.join(words)": 'return " ".join(words)',
            "json.dumps(value, ensure_ascii=False)": "f'\"{value}\"'",
            'if each != "top" or not self.single': 'if each != "top"',
            "words += self.loading.words": "pass",
            "for name, value in named.items()} | loaded": "for name, value in named.items()}",
            '*([f"weights={_spelled(self.weights)}"] if': "*([] if",
            'csv.writer(row, lineterminator="")': 'csv.writer(row, lineterminator="", quotechar="\'")',
        },
    ),
    Faults(
        "evaluation/choosing.py",
        "evaluation/test_choosing.py",
        {
            'sign = 1 if metric.better == "higher" else -1': "sign = 1",
            "found.samples[start::2]": "found.samples[0::2]",
            "for place in accounts if not place.is_control]": "for place in accounts]",
            "sign * (there[best] - there[usual_place]) >= 0": "True",
            "if each.count}": "}",
            "each.compute(first)": "each.compute(held)",
            "everywhere[place] > everywhere[chosen]": "everywhere[place] < everywhere[chosen]",
            "(len(images) - 1) / (count - 1)": "1",
            "if count < FEWEST:": "if len(images) < FEWEST:",
            "of_images(each, numbers) if is_of_each(each) and": "each if is_of_each(each) and",
            "    except OSError as error:\n        return": "    except ZeroDivisionError as error:\n        return",
            "-{fingerprint(session.module)}": "",
        },
    ),
    Faults(
        "evaluation/controls.py",
        "evaluation/test_controls.py evaluation/test_truth.py",
        {
            "generator(seed, sample)": "generator(seed)",
            "(side - 1) / 2) / (side / 4)": "side / 2) / (side / 4)",
            ".square().sum(0).sqrt()": ".abs().sum(0)",
            "inputs.double().mean(1)": "inputs.double().sum(1)",
            "if box is not None and box[0] <= box[2] and box[1] <= box[3] else": "if box is not None else",
        },
    ),
    Faults(
        "evaluation/truth.py",
        "evaluation/test_truth.py",
        {
            "or any(each.shape != tuple(size) for each in found)": "",
            "(own[:2] <= own[2:]).all()": "(own[0] <= own[2]).all()",
            "torch.from_numpy(np.array(each))": "torch.as_tensor(each)",
        },
    ),
    Faults(
        "evaluation/on_mosaics.py",
        "evaluation/test_on_mosaics.py",
        {
            "Measurement(torch.stack(cells).mean(0))": "Measurement(cells[0])",
            "made.mask(cell)[numbers]": "made.mask(0)[numbers]",
            "if len(cells) == made.side**2:": "if True:",
            'shrink=options["shrink"]': "shrink=False",
            "if callable(each)}": "}",
        },
    ),
    Faults(
        "network/fingerprint.py",
        "network/test_fingerprint.py",
        {
            "{name} {tensor.dtype}": "{tensor.dtype}",
            "{tensor.dtype} ": "",
            ".view(torch.uint8).numpy().tobytes()": ".view(torch.uint8).numpy().tobytes()[:4]",
        },
    ),
    Faults(
        "cli/evaluate.py",
        "cli/test_cli_evaluate.py",
        {
            "made, stopped = stop.evaluation, True": "made, stopped = stop.evaluation, False",
            "unwritten or (refused and (methods or metrics)) or not": "unwritten or not",
            "SOME_FAILED if unread or": "SOME_FAILED if",
            "controls=not no_controls": "controls=True",
            "if again:": "if False:",
            "seed=seed, batch=batch": "batch=batch",
            '".samples.csv"), samples=True)': '".samples.csv"))',
        },
    ),
    Faults(
        "cli/truth.py",
        "cli/test_cli_evaluate.py",
        {
            "(box[0] - across) / x, left": "box[0] / x, left",
            "min((box[2] - across) / x, right)": "(box[2] - across) / x",
            "held.get(photo.name, held.get(photo.stem, []))": "held.get(photo.name, [])",
            "if made[0] < made[2] and made[1] < made[3] else []": "",
            "if mask.size != geometry.photo_size:": "if False:",
            "* geometry.scale[axis] + geometry.offset[axis]": "* geometry.scale[axis]",
        },
    ),
    Faults(
        "cli/compare.py",
        "cli/test_cli_evaluate.py",
        {
            "named[key] if each.target else first": "named[key]",
            "if not out.fits(rows):": "if False:",
            "if measured and smoothing is not None:": "if False:",
        },
    ),
    Faults(
        "results/standing.py",
        "results/test_recommendation.py results/test_evaluation.py",
        {
            "else pair[::-1]": "else pair",
            "max(1, COVERED * most)": "1",
            ".compute(common or named[each])": ".compute()",
            "-1 if self.metrics[metric].better": "1 if self.metrics[metric].better",
            "if not self.advantage(order[0], each, metric).is_positive}": "if each == order[0]}",
            "tuple(place for place in places if place not in able)": "()",
        },
    ),
    Faults(
        "results/recommendation.py",
        "results/test_recommendation.py",
        {
            "chosen = best if few else self._cheapest()": "chosen = best",
            "chosen = best if": "chosen = self._cheapest() if",
            "list(filter(self._beats_all, equal)) or equal[:1]": "equal",
            "or equal[:1]": "or equal",
            "if sound(chosen) and not sound(first):": "if False:",
            "list(filter(self._hangs, better)) or better": "better",
            "* CHEAPER <= least": "<= least",
            "if not each.is_positive}": "if each.is_negative}",
            "and not few and self._hangs(chosen)": "and not few",
            "all(each.is_positive for each in apart.values()) and": "",
            "if each not in beaten]": "if each in beaten]",
            "if found.is_negative else": "if False else",
            "doubt = found.value > 0": "doubt = True",
            "(value := self._likeness(place, name)) >= CHANGES": "(value := self._likeness(place, name)) >= STAYS",
            'if kind != "ok"}': "if n}",
            "if each.undefined}": "}",
            'is_positive:\n                yield f"By': 'low:\n                yield f"By',
            "for own in each.warnings if own not in said": "for own in each.warnings",
        },
    ),
    Faults(
        "results/evaluation_values.py",
        "results/test_evaluation.py",
        {
            'if row["metric"] in self.metrics:': "if True:",
            '1 - kinds["ok"] / kinds.total()': 'kinds["ok"] / kinds.total()',
            "[] if place.is_control else self.placed": "self.placed",
            "curves = None if curve is None": "curves = None if True",
        },
    ),
    Faults(
        "results/tables.py",
        "results/test_evaluation.py",
        {
            ' + sum(east_asian_width(letter) in "WF" for letter in text)': "",
            'if column.marked and kind == "td":': "if cell.marks:",
            '";white-space:nowrap" + ': "",
            "(found.high - found.low) / 2": "found.high - found.low",
            "<= width\n": "<= width + 9\n",
            "rest = rest[count:]": "rest = rest[count + 1 :]",
            "< len(bar)": "<= len(bar)",
            "if standing.order[:1] == (place,):": "if False:",
            "len(table.rows) - table.controls)": "len(table.rows))",
            "layer[3 - _LAYER :]": "layer[:3]",
        },
    ),
    Faults(
        "results/evaluation_files.py",
        "results/test_evaluation.py",
        {
            "else for_json(each)": "else each",
            "found.rows if samples else found.summary()": "found.summary()",
            'if not said["is_mean"]:': "if False:",
            "schema != SCHEMA or": "",
        },
    ),
    Faults(
        "results/evaluation_figure.py",
        "results/test_evaluation.py",
        {
            "account.curves[name] - shared[name]": "account.curves[name]",
            "quiet=place.is_control": "quiet=False",
        },
    ),
    Faults(
        "metrics/pointing_game.py",
        "metrics/test_pointing_game.py",
        {
            "(away < tolerance**2)": "(away <= tolerance**2)",
            "| (away == 0)": "",
            " & ~is_flat(maps))": ")",
            'hits = hits.where(masks.flatten(1).any(1), hits.new_tensor(float("nan")))': "pass",
            "of_class[number]": "of_class[0.0]",
            "order(maps, seed=seed)[:, 0]": "maps.flatten(1).argmax(1)",
        },
    ),
    Faults(
        "kit/overlap.py",
        "metrics/test_energy_pointing_game.py metrics/test_grid_pointing_game.py metrics/test_max_box_acc.py",
        {
            "positive = maps.clamp(min=0)": "positive = maps.abs()",
            "/ positive.sum(1)": "/ (positive.sum(1) + 1e-7)",
            "(high - low).clamp(min=0)": "(high - low)",
        },
    ),
    Faults(
        "metrics/energy_pointing_game.py",
        "metrics/test_energy_pointing_game.py",
        {'return inside.where(masks.flatten(1).any(1), inside.new_tensor(float("nan")))': "return inside"},
    ),
    Faults("metrics/grid_pointing_game.py", "metrics/test_grid_pointing_game.py", {".nan_to_num(nan=0.0)": ""}),
    Faults(
        "metrics/mask_iou.py",
        "metrics/test_mask_iou.py",
        {
            "bright(maps, threshold)": "bright(maps, 0.2)",
            "(found | target).sum(1)": "target.sum(1)",
            '.where(target.any(1), union.new_tensor(float("nan")))': "",
        },
    ),
    Faults(
        "metrics/pixel_average_precision.py",
        "metrics/test_pixel_average_precision.py",
        {
            "float(_average_precision(curves.sum(0).reshape(1, 2, -1)))": "float(values.mean())",
            "right / (right + wrong)": "right / (wrong + 1)",
            "prepend=right.new_zeros(len(right), 1)": "prepend=right[:, :1]",
            "found.flip(2)": "found",
            '.where(masks.flatten(1).any(1), maps.new_tensor(float("nan")))': ".nan_to_num(0)",
        },
    ),
    Faults(
        "metrics/max_box_acc.py",
        "metrics/test_max_box_acc.py",
        {
            "curves.mean(0).reshape(-1, LEVELS).amax(1)": "values",
            "np.ones((3, 3))": "None",
            "across.start, down.start, across.stop, down.stop": "down.start, across.start, down.stop, across.stop",
            "count > 1 and version == 1": "count > 1",
            "[1:].argmax()": "[1:].argmin()",
            ">= thresholds[:, None]": "> thresholds[:, None]",
            ".where(known, maps.new_tensor(torch.nan))": "",
            "found.append(found[-1])": "found.append(0.0)",
        },
    ),
    Faults(
        "evaluation/journal.py",
        "evaluation/test_going_on.py",
        {
            "with disk_errors_said(self.path), self.path.open": "with self.path.open",
            "with disk_errors_said(path):": "if True:",
            'held[: held.rfind(b"\\n") + 1]': "held",
            "write_whole(path, whole)": "pass",
            "if part.samples:": "if part.rows or part.failures:",
        },
    ),
    Faults(
        "evaluation/images.py",
        "evaluation/test_going_on.py",
        {
            "names.pop(0) for": "names[0] for",
            "*(bytes_of(each[number]) for each in self.of_each)": "",
            "            unused(name)": "            pass",
        },
    ),
    Faults(
        "engine/identity.py",
        "evaluation/test_going_on.py",
        {
            "*([digits(map(bytes_of, inside))] if (inside := arrays(value)) else [])": "",
            "isfunction(value) and value.__closure__ is None": "False",
            "code.co_code, code.co_names, code.co_consts, ": "",
            '"preprocess": preprocess,': "",
            "modules.get(spec, str(spec)) if isinstance(spec, nn.Module) else str(spec)": "str(spec)",
            '("fusion", "layout", "output", "views")': "()",
        },
    ),
    Faults(
        "evaluation/evaluate.py",
        "evaluation/test_going_on.py",
        {
            "and not questions.crossed": "",
        },
    ),
    Faults(
        "evaluation/questions.py",
        "evaluation/test_going_on.py",
        {
            "names(_called(each)) for each": "_called(each) for each",
            "not arrays(own := getattr(target, each.name)) and ": "(own := getattr(target, each.name)) != 0 and ",
        },
    ),
    Faults(
        "kit/statistics.py",
        "kit/test_statistics.py",
        {
            "set(one.named) & set(two.named)": "set(one.named)",
            "one.compute(names) - two.compute(names)": "one.compute() - two.compute()",
            "- self._draws(other, names)": "- self._draws(other, names).flip(0)",
            "math.sqrt(samples / freedom)": "1.0",
            "if samples < 2 or": "if",
            "self.count >= FEWEST and self.low > 0": "self.low > 0",
            "range(0, _DRAWS, some)": "range(0, _DRAWS, 2 * some)",
            "if over is None:": "if True:",
        },
    ),
    Faults(
        "kit/likeness.py",
        "kit/test_likeness.py",
        {
            "(below + len(number) - above)": "(below + below)",
            "scatter_(1, places, shared)": "copy_(shared)",
            "if structure:": "if False:",
            "center_rows(each": "(each",
            ".clamp(-1, 1)": "",
            "return pearson(_ranks(one), _ranks(other))": "return pearson(one, other)",
            '"] = ssim(one, other)': '"] = pearson(one, other)',
            "deviation=1.5, size=11": "deviation=1.5, size=7",
            "- low**2 + mean(second**2)": "+ mean(second**2)",
            "spearman(one.abs(), other.abs())": "spearman(one, other.abs())",
            ".where(~is_flat(other), nothing)": "",
            "known = ~is_flat(one) &": "known =",
            "& (one + other).flatten(1).isfinite().all(1)": "",
        },
    ),
    Faults(
        "kit/coherency.py",
        "metrics/test_adcc.py",
        {
            ".nan_to_num(nan=0.0)": "",
            "(1 + alike) / 2": "alike",
            "pearson(normalize(maps, how), ": "pearson(maps, ",
            "return normalize(maps, how).flatten": "return maps.flatten",
            "len(parts) / (1 / torch.stack(parts)).sum(0)": "torch.stack(parts).mean(0)",
        },
    ),
    Faults(
        "metrics/adcc.py",
        "metrics/test_adcc.py",
        {"coherent, 1 - wide": "coherent, wide", "wide, 1 - drop)": "wide, drop)"},
    ),
    Faults(
        "kit/masked.py",
        "metrics/test_adcc.py",
        {".clamp(min=0)\n    return (lost": "\n    return (lost", "(lost / scores)": "(lost / (scores + 1e-7))"},
    ),
    Faults(
        "evaluation/randomized.py",
        "evaluation/test_randomized.py",
        {
            "twin(copy, _own)": "twin(copy)",
            "range(done, until)": "range(done, done + 1)",
            "(len(order) - 1) / (number - 1)": "len(order) / number",
            " if stage < number - 1 else len(order)": " if number > 1 else 1",
            "with torch.random.fork_rng(range(torch.cuda.device_count())):": "if True:",
            "first_tensor(given)": "next(tensors(given))[1]",
            "picture - constant": "picture",
            "if has_towers(copy) else []": "if False else []",
            "nn.Parameter(held, tensor.requires_grad)": "nn.Parameter(held)",
            'name.rpartition(".")[0]': '""',
            "(begins(each[1]), each[0])": "each[0]",
            "or _counts(each)]": "]",
            "each.fill_(torch.nan)": "pass",
            "generator(seed, number).initial_seed()": "generator(seed, 0).initial_seed()",
            'getattr(layer, "_reset_parameters", None)': "None",
            "with suppress(Exception):": "if True:",
            "old.mean() + spread": "old.mean()",
            "if each.is_floating_point()}": "}",
        },
    ),
    Faults(
        "metrics/model_randomization.py",
        "metrics/test_model_randomization.py",
        {
            "Measurement(curve.nanmean(1)": "Measurement((curve.nansum(1) + 1) / (len(rows) + 1)",
            "{name: each.nanmean(1)": "{name: each.mean(1)",
            "curve[:, -1]": "curve[:, 0]",
            "(number + 1) / len(rows)": "number / len(rows)",
            "explain_randomized(stages, seed)": "explain_randomized(stages, 0)",
        },
    ),
    Faults(
        "metrics/class_randomization.py",
        "metrics/test_class_randomization.py",
        {'seed if other == "random" else None': "seed", 'kinds.pop("spearman")': 'kinds.pop("magnitudes")'},
    ),
    Faults(
        "metrics/max_sensitivity.py",
        "metrics/test_max_sensitivity.py",
        {
            "dtype=torch.float64) - 1": "dtype=torch.float64)",
            "generator(seed, key[2])": "generator(seed)",
            ".amax(0)": ".mean(0)",
            "shared=True": "shared=False",
            "over_length(away, maps) if relative": "away if relative",
        },
    ),
    Faults(
        "metrics/input_invariance.py",
        "metrics/test_input_invariance.py",
        {"over_length(away, maps)": "away", "explain_shifted(shift)": "explain_shifted(1.0)"},
    ),
    Faults(
        "kit/likeness.py",
        "metrics/test_input_invariance.py",
        {".where(length > 0, maps.new_tensor(torch.nan))": ".nan_to_num(0)"},
    ),
    Faults(
        "kit/likeness.py",
        "metrics/test_max_sensitivity.py",
        {"(distances / length).where": "(distances / (length + 1e-7)).where"},
    ),
    Faults(
        "kit/files.py",
        "results/test_evaluation.py evaluation/test_going_on.py",
        {
            "math.nan if value is None else value": "0.0 if value is None else value",
            "mine.get(name) != theirs.get(name)]": "name == 'weights' and mine.get(name) != theirs.get(name)]",
        },
    ),
    Faults(
        "methods/d_rise.py",
        "methods/test_d_rise.py",
        {
            ".where(~flat, halves[0].new_zeros(()))": "",
            "pearson(*halves)": "0 * pearson(*halves)",
        },
    ),
    Faults(
        "evaluation/quantities.py",
        "metrics/test_class_randomization.py metrics/test_model_randomization.py metrics/test_max_sensitivity.py",
        {
            "torch.randint(1, number, (1,)": "torch.randint(0, number, (1,)",
            "logits.scatter(1, index[:, None], -torch.inf)": "logits",
            "if key not in known:": "if True:",
            "if index is None or not answer.classes:": "if index is None and answer.classes is None:",
        },
    ),
    Faults(
        "evaluation/explained.py",
        "evaluation/test_asked_again.py",
        {
            "resolvers = [replace(one, number=0)], [resolvers[one.number]]": "resolvers = self.combinations, resolvers",
            '{**plans, "": known}': "plans",
            "each if target.again is None else": "each if True else",
            "Session(replace(session.vision, module=module))": "session",
        },
    ),
    Faults(
        "evaluation/direct.py",
        "evaluation/test_asked_again.py",
        {
            "< SAME[1]": "< 1e9",
            "and metric.takes & EXPLAINING": "",
        },
    ),
    Faults(
        "targets/boxes.py",
        "evaluation/test_asked_again.py",
        {"again=_Same(target, tuple(boxes), tuple(labels), number),": ""},
    ),
    Faults(
        "evaluation/mosaics.py",
        "evaluation/test_mosaics.py",
        {
            "probabilities >= confidence": "probabilities > confidence",
            "usable &= classes": "usable |= classes",
            "key=lambda each: -len(left[each])": "key=lambda each: 0 * len(left[each])",
            "at = divmod(cell, side)": "at = divmod(cell, side)[::-1]",
            "generator(seed)": "generator(0)",
            "classes[photos]": "classes[photos].flip(1)",
            "here * length // side, (here": "here * (length // side), (here",
        },
    ),
    Faults(
        "metrics/arcc.py",
        "metrics/test_arcc.py",
        {
            "(2 * parts[": "(1 * parts[",
            ".clamp(0, 1)": ".clamp(1e-7, 1)",
            "coherent, 1 - wide": "coherent, wide",
            "(least - most)": "(most - least)",
        },
    ),
    Faults(
        "metrics/sparseness.py",
        "metrics/test_sparseness.py",
        {
            "maps.abs()": "maps",
            "- count - 1": "- count",
            "/ (count * sizes.sum(1))": "/ (count * (sizes.sum(1) + 1e-7))",
        },
    ),
    Faults(
        "metrics/entropy.py",
        "metrics/test_entropy.py",
        {
            "maps.abs()": "maps",
            ".sum(1, keepdim=True)": ".amax(1, keepdim=True)",
        },
    ),
    Faults(
        "metrics/deletion.py",
        "metrics/test_deletion.py",
        {"rank < count": "rank >= count", "torch.cat([scores[None], rest])": "torch.cat([rest, scores[None]])"},
    ),
    Faults(
        "metrics/insertion.py",
        "metrics/test_insertion.py",
        {"rank >= count": "rank < count", 'Filling = "blur"': 'Filling = "zero"', "shown[:-1]": "shown[1:]"},
    ),
    Faults(
        "metrics/average_drop.py",
        "metrics/test_average_drop.py",
        {"100 * share_lost": "share_lost"},
    ),
    Faults(
        "kit/random_pixels.py",
        "metrics/test_faithfulness_correlation.py",
        {
            "generator(seed, number)": "generator(0, number)",
            "max(1, round(share * pixels))": "round(share * pixels) + 1",
            "shared=True": "shared=False",
            "-left.mT": "left.mT",
        },
    ),
    Faults(
        "kit/random_pixels.py",
        "metrics/test_sensitivity_n.py",
        {"max(1, round(share * pixels))": "round(share * pixels)", '"random pixels", count,': '"random pixels", 0,'},
    ),
    Faults("metrics/sensitivity_n.py", "metrics/test_sensitivity_n.py", {"curve.mean(1)": "curve.amax(1)"}),
    Faults(
        "metrics/faithfulness_correlation.py",
        "metrics/test_faithfulness_correlation.py",
        {', domain="score"': "", "baseline=baseline": 'baseline="zero"'},
    ),
    Faults(
        "metrics/infidelity.py",
        "metrics/test_infidelity.py",
        {
            ', domain="score"': "",
            "inputs - drawn": "inputs",
            "step.sum(1)": "step.mean(1)",
            "if scaled:": "if True:",
            "squares.where(squares > 0, 1)": "squares",
            "10 * min(space) // 28": "min(space)",
            "length - side + 1": "length - side",
            ".square().mean(0)": ".abs().mean(0)",
        },
    ),
    Faults(
        "metrics/irof.py",
        "metrics/test_irof.py",
        {
            " / places.bincount()": "",
            'Filling = "mean"': 'Filling = "zero"',
            "turn < gone": "turn + 1 == gone",
            "own[None, : n + 1]": "own[None, -n - 1 :]",
            "scores > 0, torch.nan": "scores == scores, torch.nan",
            "(torch.cat([scores[None], rest]) / scores)": "torch.cat([scores[None], rest])",
        },
    ),
    Faults("kit/superpixels.py", "metrics/test_irof.py", {"n_segments=pieces": "n_segments=100"}),
    Faults(
        "metrics/road.py",
        "metrics/test_road.py",
        {"(least - most) / 2": "least - most", "scores[0].mT": "scores[1].mT", "tops.mean(1)": "tops.amax(1)"},
    ),
    Faults(
        "kit/both_orders.py",
        "metrics/test_road.py",
        {
            "least, int(share * pixels)": "least, round(share * pixels)",
            "rank >= pixels - count": "rank > pixels - count",
        },
    ),
    Faults("kit/options.py", "metrics/test_road.py", {"min(each) > 0": "min(each) >= 0", "max(each) < 1": "True"}),
    Faults(
        "evaluation/quantities.py",
        "evaluation/test_asked_again.py",
        {"if all(each.ok for each in self.bound.status):": "if True:"},
    ),
    Faults(
        "evaluation/quantities.py",
        "metrics/test_road.py",
        {"logits.argmax(1) == index": "logits.argmin(1) == index"},
    ),
    Faults(
        "metrics/increase_in_confidence.py",
        "metrics/test_increase_in_confidence.py",
        {"SAME[0] * scores.abs()": "0", "shown - scores >": "scores - shown >"},
    ),
    Faults(
        "metrics/average_gain.py",
        "metrics/test_average_gain.py",
        {"/ (1 - scores)": "", ".clamp(min=0)": "", "scores < 1": "scores == scores"},
    ),
    Faults(
        "evaluation/quantities.py",
        "metrics/test_average_gain.py",
        {"if (asked, each) not in known]": "]"},
    ),
    Faults(
        "kit/ranking.py",
        "metrics/test_deletion.py",
        {
            "ties[flat[:, ties].argsort(dim=1, descending=True, stable=True)]": "flat.argsort(dim=1, descending=True)",
            "round(step * pixels / steps)": "step * (pixels // steps)",
            "torch.trapezoid(curve, places, dim=1) / (places[-1] - places[0])": "curve.mean(1)",
        },
    ),
    Faults(
        "kit/removal.py",
        "metrics/test_deletion.py",
        {"deviation=5.0, size=11": "", "inputs.flatten(2).mean(2)": "inputs.flatten(2).amax(2)"},
    ),
    Faults("kit/removal.py", "metrics/test_deletion.py", {"seed=self.seed": "seed=self.seed, deviation=0.1"}),
    Faults(
        "kit/imputation.py",
        "kit/test_imputation.py",
        {
            "0.5 ** sum": "0.7 ** sum",
            "bool(gone.all())": "False",
            "order[unknown[order]]": "unknown.nonzero()[:, 0]",
            "ThreadPoolExecutor(torch.get_num_threads())": "ThreadPoolExecutor(1)",
            "weight * inside[there].double()": "weight",
            "deviation: float = 0.01": "deviation: float = 0.1",
            "noise(inputs.shape[1:], seed)": "torch.randn(inputs.shape[1:])",
            ", -weight, dtype": ", weight, dtype",
        },
    ),
    Faults("kit/masked.py", "metrics/test_average_drop.py", {"normalize(maps, how)": "normalize(maps.abs(), how)"}),
    Faults("kit/masked.py", "metrics/test_average_gain.py", {'("through", maps, how': '("through", how'}),
    Faults(
        "methods/raw_attention.py",
        "methods/test_raw_attention.py",
        {
            "rows = rows @ folds[-1]": "rows = folds[-1].mean(-2, keepdim=True) * 0 + 1",
            "(rows.unsqueeze(1) @ attention)": "(rows.unsqueeze(1) @ attention.mT)",
            "parts.mean(1), parts": "parts.amax(1), parts",
        },
    ),
    Faults(
        "results/panels.py",
        "methods/test_raw_attention.py",
        {"for each in one.parts[0]]": "for each in strengths]", "{one.apart or 'Part'}": "Part"},
    ),
    Faults(
        "results/heat.py",
        "methods/test_raw_attention.py",
        {"explanation.parts is not None and not explanation.apart": "explanation.parts is not None"},
    ),
    Faults(
        "checkup/cost.py",
        "cli/test_cli_runs.py",
        {"own = method.title if method.needs & OF_ATTENTION else": 'own = "" if method.needs else'},
    ),
    Faults("network/diagnosis/flops.py", "cli/test_cli_runs.py", {"if gradient is None:": "if gradient is Ellipsis:"}),
    Faults(
        "cli/layers_and_methods.py",
        "cli/test_cli_runs.py",
        {"if each.needs & OF_ATTENTION else": "if not each.has_layer else", 'f"each {why[len(title) :]}"': "why"},
    ),
    Faults("results/grids.py", "test_examples.py", {'name != "layer"': "True"}),
    Faults(
        "network/attention/places.py",
        "network/attention/test_places.py",
        {
            "straight = len(positions) == size == keys and": "straight = len(positions) == size and",
            "if len(fed) > rows:": "if False:",
            "if len(set(fed.tolist())) < rows:": "if False:",
            "base = 16 if half else 4096": "base = 4096",
            "reversed(range(len(leading)))": "range(len(leading))",
            "torch.set_grad_enabled(True)  # a block": "# a block",
            "if asked.of != codes.of or not torch.equal(asked.numbers, codes.numbers):": "if False:",
            "same[min(call, len(same) - 1)]": "same[0]",
        },
    ),
    Faults(
        "network/attention/folding.py",
        "network/attention/test_folding.py methods/test_legrad.py methods/test_clip_surgery.py",
        {
            " / (returned.numel() // gradient.numel())": "",
            "return replaced(value, path, tensor.detach().clone())": "return None",
            "each.differentiates == (gradients is not None)": "each.differentiates",
        },
    ),
    Faults(
        "engine/attention.py",
        "methods/test_attention_products.py methods/test_legrad.py network/attention/test_places.py",
        {
            "read / read.sum(1, keepdim=True).clamp(min=1)": "read",
            "(head_output_gradients != 0).any(-1).any(1)": "(head_output_gradients > 0).any(-1).any(1)",
            "LayerRef(_same(self.places, self.places[end])[-1].block)": "LayerRef(self.places[end].block)",
            'if title in self.layered and chain[-1].kind == "pool":': "if False:",
            "tokens.reshape(-1, *((1, *shape[1:]) if first else (*shape[:-1], 1)))": "tokens.unsqueeze(-1)",
        },
    ),
    Faults(
        "network/layers/attention_block.py",
        "methods/test_attention_products.py",
        {'if late.location == "undetermined" and early.location == "verified" else late': "if False else late"},
    ),
    Faults(
        "kit/attention.py",
        "methods/test_attention_products.py",
        {
            "for each in reversed(blocks):": "for each in blocks:",
            "block.sum(-1, keepdim=True)": "block.sum(-2, keepdim=True)",
            "(step(each) if each.shape[1] == each.shape[2] else each)": "step(each)",
        },
    ),
    Faults(
        "methods/grad_rollout.py",
        "methods/test_attention_products.py",
        {".mean(1).relu()": ".relu().mean(1)"},
    ),
    Faults(
        "methods/generic_attention.py",
        "methods/test_attention_products.py",
        {".relu_().mean(1)": ".mean(1).relu()"},
    ),
    Faults(
        "methods/legrad.py",
        "methods/test_legrad.py",
        {".relu().mean(1).mean(1)": ".mean(1).relu().mean(1)", "folds[-blocks:]": "folds[:blocks]"},
    ),
    Faults(
        "methods/grad_eclip.py",
        "methods/test_grad_eclip.py",
        {
            "output_projection(queries), output_projection(keys)": "queries.flatten(1, 2), keys.flatten(1, 2)",
            'normalize(token_grid(likeness.flatten(0, 1)), "minmax")': "token_grid(likeness.flatten(0, 1))",
        },
    ),
    Faults(
        "methods/clip_surgery.py",
        "methods/test_clip_surgery.py",
        {
            "(values @ values.mT * values.shape[-1] ** -0.5)": "(values @ values.mT)",
            "block_outputs[-blocks - 1]": "block_outputs[-blocks]",
            "alike = alike - alike.mean(-1, keepdim=True)": "pass",
            "(2 * prompts.similarities)": "prompts.similarities",
        },
    ),
    Faults(
        "network/variants/shared_copy.py",
        "network/variants/test_shared_copy.py",
        {"for key in (_TABLES & mine.keys()) - values.keys()": "for key in _TABLES & mine.keys() if not mine[key]"},
    ),
    Faults(
        "engine/session.py",
        "engine/test_usual_method.py",
        {
            "found.choosing.plus(*looked)": "found.choosing",
            "maker.notes = (*filter(None, (said, request.said)), *maker.notes)": "pass",
            "if not request.open or": "if",
        },
    ),
    Faults(
        "engine/attention.py",
        "engine/test_usual_method.py",
        {
            '(each.kind, each.size) == ("tokens", size) for each in found': "True for each in found",
            "except Exception:  # a network that cannot be watched so": "except KeyError:",
        },
    ),
    Faults(
        "engine/attention.py",
        "methods/test_attention_products.py",
        {
            "each is place or each.number in place.after or place.number in each.after": "True",
            "if other.number != end and other.number not in self.places[end].after:": "if False:",
            "and place not in _same(self.places, self.places[max(self.cuts)])": "and False",
        },
    ),
    Faults(
        "engine/attention.py",
        "methods/test_clip_surgery.py",
        {
            'if layer.tap.side == "input" or layer': "if layer",
            'or layer.tap.module.startswith(f"{place.block}.")': "",
        },
    ),
    Faults(
        "engine/request.py",
        "engine/test_usual_method.py",
        {
            "self.signed or self.per_channel or any": "any",
            "and not isinstance(first, OutputTarget)": "",
            "if not self.usual or": "if",
        },
    ),
    Faults(
        "network/variants/hidden.py",
        "methods/test_tis.py",
        {
            "kept / kept.sum(-1, keepdim=True)": "kept",
            "kept = weights * mine": "kept = weights * mine.flip(-1)",
            "< _ROUNDING).all()": "< 99).all()",
            "if not self.network.agrees(spoiled, found):": "if False:",
            "each.size != self.ones.numel()": "False",
            "if each.kind not in": "if False and each.kind not in",
        },
    ),
    Faults(
        "methods/tis.py",
        "methods/test_tis.py",
        {
            "int(keep * means.shape[1])": "int(keep * means.shape[1]) + 1",
            ".where(sizes > 0, means)": "",
            "range(_ROUNDS)": "range(1)",
            "summed / coverage.where": "summed / 1 / coverage.ones_like(coverage).where",
            "torch.cat([each.flatten(2) for each in block_outputs], 1)": "block_outputs[-1].flatten(2)",
        },
    ),
    Faults(
        "network/variants/dimmed.py",
        "methods/test_vit_recipro_cam.py",
        {
            "made = dimmed(returned[sample : sample + 1])": "made = returned[sample : sample + 1]",
            "sample, dimmed(raw))": "sample, raw.expand(len(rows), *raw.shape[1:]))",
            "if not any(each.startswith": "if any(True for each in found) or any(each.startswith",
            "alone and apart(double, made) <= _EPSILON": "alone",
            "if alone and": "if",
            "torch.ones_like(value))": "torch.zeros_like(value))",
        },
    ),
    Faults(
        "methods/vit_recipro_cam.py",
        "methods/test_vit_recipro_cam.py",
        {
            "if gaussian else": "if not gaussian else",
            "probability: bool = False": "probability: bool = True",
        },
    ),
    Faults(
        "methods/vit_cx.py",
        "methods/test_vit_cx.py",
        {
            "* (1 - shows)": "",
            "(inputs if number % 2 else inputs * shows) + drawn": "inputs + drawn if number % 2 else inputs * shows",
            " + scores[-1]": "",
            "coverage * counts": "coverage + 0 * counts",
            "1 - _cosines(maps, size)": "1 - _cosines(maps, maps.shape[1:])",
            "sorted(divmod(int(apart.argmin()), len(apart)))": "divmod(int(apart.argmin()), len(apart))",
            "torch.maximum(apart[one]": "torch.minimum(apart[one]",
            "to_unit(resize(each[number : number + 1], size))": "resize(to_unit(each[number : number + 1]), size)",
        },
    ),
    Faults(
        "methods/odam.py",
        "methods/test_odam.py",
        {
            "min(activations.shape[2:])": "max(activations.shape[2:])",
            "blur(gradients, 0.8, 3)": "blur(gradients, 1.0, 3)",
        },
    ),
    Faults(
        "engine/tiles.py",
        "engine/test_tiles.py",
        {
            "2 * reach": "reach // 2",
            "dense(output, context.inputs.ndim - 2)": "dense(output)",
            "(each.start - each.low) // step,": "0,",
            "covered[_at(place)] += 1": "covered[_at(place)] = 1",
            "found * self.weights": "found",
            "max(0, start - around)": "start",
        },
    ),
    Faults(
        "pictures/input_context.py",
        "pictures/test_geometry.py",
        {"(top / height / down,": "(0.0,", "clamp(min=start * length)": "clamp(min=0)"},
    ),
    Faults(
        "methods/d_rise.py",
        "methods/test_d_rise.py",
        {
            "weighted - mean * shows if": "weighted - shows if",
            "number % 2": "number % 3 // 2",
            "not settled.all()": "not settled.any()",
            "maps.where(settled.reshape(-1, *[1] * mask.ndim), both)": "both",
        },
    ),
    Faults(
        "network/variants/scoring.py",
        "targets/test_d_rise.py",
        {"self.runners.shared.setdefault(self.title, {})": "{}", "if each not in known]) or": "]) or"},
    ),
    Faults("network/variants/loosened.py", "targets/test_d_rise.py", {"score_thresh = _LEAST": "score_thresh = 0.99"}),
    Faults(
        "network/recording/detaching.py",
        "targets/test_through_selection.py",
        {"            if self.through:": "            if not self.through:", "args[0].requires_grad": "True"},
    ),
    Faults(
        "network/preserve_state.py",
        "targets/test_yolo.py",
        {
            "value.is_inference():": "False:",
            "elif id(now) in keeping:": "elif any(True for _ in tensors(now[name])):",
        },
    ),
    Faults(
        "targets/outputs.py",
        "targets/test_yolo.py",
        {"row[: 4 + head.nc]": "row"},
    ),
    # numbers that decide, on the other side of a value that is tried
    Faults("kit/status.py", "kit/test_status.py", {"SATURATED = 1 - 1e-4": "SATURATED = 1 - 1e-3"}),
    Faults("network/outputs.py", "network/test_outputs.py", {"_WIDE = 16": "_WIDE = 17"}),
    Faults(
        "network/layers/positions.py",
        "network/layers/test_positions.py",
        {
            "_AGREEMENT = 0.8": "_AGREEMENT = 0.5",
            "_NOISE = 0.1": "_NOISE = 10.0",
            "_FLAT, _CLEAR = 0.02, 0.3": "_FLAT, _CLEAR = 0.002, 0.6",
        },
    ),
    Faults(
        "network/recording/views.py",
        "network/recording/test_views.py",
        {"> 0.25": "> 2", "(0.05 * times)": "(0.5 * times)", "> 1e-4": "> 1e-1", "_MANY = 64": "_MANY = 2"},
    ),
    Faults(
        "network/quantities/head_weights.py",
        "network/quantities/test_head_weights.py",
        {"else 1e-4": "else 3e-1", "3e-2 if": "3e-1 if", "rtol=1e-4": "rtol=1e-3"},
    ),
    Faults(
        "network/variants/layer_edit.py",
        "network/variants/test_layer_edit.py",
        {"_ROUNDING = (1e-2, 1e-1)": "_ROUNDING = (5e-1, 9e-1)"},
    ),
    Faults(
        "kit/arrays.py",
        "network/variants/test_layer_edit.py network/variants/test_scoring.py",
        {"SAME = (1.2e-5, 1e-2)": "SAME = (1.2e-4, 1e-2)"},
    ),
    Faults("network/variants/fast_copy.py", "network/variants/test_fast_copy.py", {"= 1e-4": "= 1e-1"}),
    Faults("methods/full_grad.py", "methods/test_full_grad.py", {"_COMPLETE = 0.01": "_COMPLETE = 0.1"}),
    Faults("methods/kpca_cam.py", "methods/test_kpca_cam.py", {"64 * 64": "64 * 65"}),
    Faults("methods/poly_cam.py", "methods/test_poly_cam.py", {"CLIPPED = 0.001": "CLIPPED = 0.01"}),
    Faults("methods/seg_eigen_cam.py", "methods/test_seg_eigen_cam.py", {"_ROUNDING = 1e-9": "_ROUNDING = 1e-3"}),
    Faults(
        "results/heat.py",
        "results/test_drawing.py",
        {"_PIXEL_QUANTILE = 0.995": "_PIXEL_QUANTILE = 0.95"},
    ),
    Faults("results/panels.py", "results/test_drawing.py", {"\n_ALONE = 0.8": "\n_ALONE = 0.5"}),
    Faults(
        "results/explanation.py",
        "reports/test_report.py",
        {"failures, fingerprint_of(model)": "failures"},
    ),
    Faults(
        "results/heat.py",
        "results/test_heat.py",
        {
            "drawn.amax(1).minimum(own.amax(1))": "drawn.amax(1)",
            "ends > 0, 0.0": "ends > 0, 1.0",
            "scaled.where(raw.isfinite(), torch.nan)": "scaled",
            "-end if look.signed else 0.0": "0.0",
        },
    ),
    Faults(
        "results/drawing.py",
        "results/test_heat.py",
        {
            "above(on_canvas(bright, geometry)[0], look.contour)": "on_canvas(bright, geometry)[0] > 0",
            "return paint.alone(seen, outline)": "return paint.alone(None, outline)",
            "if look.caption is True:": "if look.caption:",
        },
    ),
    Faults("results/look.py", "results/test_media.py", {'self.enlarge == "cubic" and axes != 2': "False"}),
    Faults(
        "pictures/strips.py",
        "pictures/test_strips.py",
        {
            "palette(colormap, signed)[None]": "palette(colormap, signed)[None, ::-1]",
            "int(0.9 * width": "int(2 * width",
        },
    ),
    # variants: how many at once, how near, and what a fast copy is off by
    Faults(
        "network/variants/scoring.py",
        "network/variants/test_scoring.py",
        {
            "budget // (2 * each)": "budget // each",
            "CACHED = 32 * 2**20": "CACHED = 64 * 2**20",
            "_ROUNDING = (1e-4, 5e-2)": "_ROUNDING = (1e-3, 5e-2)",
            "float(moved) / 100": "float(moved) * 100",
            "made + (score(fast": "made - (score(fast",
            "[round(k * last / (_SAMPLE - 1)) for k in range(_SAMPLE)]": "list(range(_SAMPLE))",
            "self.halved = runner.halved": "self.halved = 0",
        },
    ),
    Faults(
        "network/variants/scoring.py",
        "network/recording/test_partial_forward_traps.py network/recording/test_partial_forward.py",
        {"laid.permute(order).contiguous().permute(back)": "laid"},
    ),
    Faults(
        "network/variants/fast_copy.py",
        "network/variants/test_fast_copy.py",
        {", (_noise(given), on_noise)]": "]", "dtype, _statistics(copy)": "dtype"},
    ),
    Faults(
        "network/variants/folding.py",
        "network/variants/test_fast_copy.py",
        {"== calls[norm] ==": "==", "if convolution not in others and": "if"},
    ),
    Faults(
        "network/variants/tracing.py",
        "engine/test_faults_layouts.py",
        {"{} if isinstance(layout, Tokens) and not same else {tap: layout}": "{tap: layout}"},
    ),
    Faults("methods/cameras.py", "methods/test_cameras.py", {"maps += (": "maps = ("}),
    Faults("network/memory.py", "network/test_memory.py", {" + sum(map(int, cached))": ""}),
    # what is measured
    Faults("network/recording/record.py", "network/recording/test_record.py", {" and not bool(maps.any())": ""}),
    Faults("network/recording/forward.py", "network/recording/test_record.py", {"kept = kept.clone()": "pass"}),
    Faults(
        "network/recording/partial_forward.py",
        "network/recording/test_partial_forward_traps.py network/recording/test_partial_forward.py",
        {"uses(tensor.untyped_storage()._cdata) > uses(": "0 * uses(tensor.untyped_storage()._cdata) > uses("},
    ),
    Faults("network/quantities/biases.py", "network/quantities/test_biases.py", {"wide(beta) - shift": "wide(beta)"}),
    Faults(
        "network/quantities/curvature.py",
        "network/quantities/test_curvature.py",
        {"    _refuse_errors(grad": "    (grad"},
    ),
    Faults(
        "pictures/preprocess.py", "pictures/test_preprocess.py", {"round((length - size) / 2)": "(length - size) // 2"}
    ),
    Faults(
        "pictures/measured.py",
        "pictures/test_measured.py",
        {
            "_AWAY = 0.5": "_AWAY = 20",
            "_ALIKE = 0.9": "_ALIKE = -2",
            "_KERNEL = 3": "_KERNEL = 0",
            "offset=(below - top * y, beside - left * x)": "offset=(below, beside)",
            "if not torch.equal(colored": "if torch.equal(-colored",
            "max(2, len(rows) / 2)": "2",
        },
    ),
    Faults(
        "network/shared.py",
        "network/test_shared.py",
        {"and not self._users": "", "self._users.discard(me)": "self._users.clear()"},
    ),
    # how maps are made, options, and what an Explainer knows
    Faults(
        "kit/arrays.py",
        "engine/test_making.py",
        {
            "if making is None or not making.signed:": "if making is None or making.signed:",
            "        making.products = products\n": "        making.products = products.relu()\n",
            '"nearest": "nearest-exact"': '"nearest": "bilinear"',
            "making.colors = maps": "making.colors = maps.abs()",
        },
    ),
    Faults(
        "methods/shap_cam.py", "methods/test_shap_cam.py", {"return values.reshape_as": "return 2 * values.reshape_as"}
    ),
    Faults(
        "kit/options.py",
        "kit/test_options.py",
        {
            'a number, 1 or more", lambda value: value >= 1': 'a number, 1 or more", lambda value: value >= 0',
            "and math.isfinite(value)": "",
            "type(value) is type(each) and value == each": "value == each",
        },
    ),
    Faults(
        "network/model_tree.py",
        "test_explainer.py",
        {
            "(each.training, not each._forward_pre_hooks)": "(not each._forward_pre_hooks,)",
            "and all(map(is_, now, then))": "",
            "found.model is model": "True",
        },
    ),
    Faults(
        "network/preserve_state.py",
        "network/test_preserve_state.py",
        {
            "users.discard(self)": "users.clear()",
            "_leave_modes(*modes)\n": "pass\n",
            "torch.set_autocast_cache_enabled(autocast)": "pass",
            "if self.random and drew():": "if self.random:",
        },
    ),
    Faults("network/cache.py", "test_explainer.py", {"each.pop(model, None)": "pass"}),
    Faults(
        "pictures/overlay.py",
        "pictures/test_overlay.py",
        {
            "(2 * np.where": "(1 * np.where",
            "0.45 * gray": "0.55 * gray",
            'if blend == "map":': "if colormap is None:",
            "np.where(seen.cpu().numpy(), self.share, 0)": "self.share",
            "if self.on_gray else pixels": "if False else pixels",
        },
    ),
    # targets of the whole output
    Faults(
        "targets/outputs.py",
        "targets/test_boxes.py",
        {
            "return raw[at]": "return raw[at].sigmoid()",
            "classes = logits.softmax(-1)[:, :-1] if none": "classes = logits.softmax(-1)[:, 1:] if none",
        },
    ),
    Faults(
        "targets/outputs.py",
        "targets/test_outputs.py",
        {
            "center + extent / 2], 1) * boxes": "center + extent], 1) * boxes",
            "| (labels[rest] != labels[first])": "",
            "raw[label, anchor] if raw is not None": "raw[label, anchor].sigmoid() if raw is not None",
        },
    ),
    Faults(
        "targets/outputs.py",
        "targets/test_regions.py",
        {
            "return scores[:, 0] if index else -scores[:, 0]": "return scores[:, 0]",
            "queries.softmax(-1)[..., :-1]": "queries.softmax(-1)[..., 1:]",
            "lambda other: scale(first(take(other)))": "lambda other: dense(other).scores",
        },
    ),
    Faults(
        "targets/boxes.py",
        "targets/test_boxes.py",
        {
            "return iou(box, found.boxes.detach()) * same.detach()": "return iou(box, found.boxes.detach())",
            "overlap = overlap * (found.labels == label)": "pass",
            "each.scores.detach() >= self.min_score": "each.scores.detach() > self.min_score",
            "return each.boxes[index, column]": "return each.boxes[index, 0]",
            "each.scores >= each.scores[i] / 2": "each.scores >= 0",
            "+ kept[k % samples]": "",
            "pair is not None and bool(pair[1].amax() > 0)": "pair is not None",
        },
    ),
    Faults(
        "targets/regions.py",
        "targets/test_regions.py",
        {
            'mode="area")[0, 0]': 'mode="nearest")[0, 0]',
            "* weights.to(scores.device)).flatten": "* scores.argmax(1)).flatten",
            "seen = wide(found.scores.detach())": "seen = found.scores.detach()",
            "context.to_input(i, *self.point) for i": "context.to_input(0, *self.point) for i",
            "(near[0, 0] > 0) & region": "(near[0, 0] > 0)",
            "(at + 0.5) * of / cut": "at * of / cut",
            "* cells / length\n": "\n",
        },
    ),
    Faults(
        "targets/vectors.py",
        "targets/test_vectors.py",
        {
            "(length if live else length.detach())": "length",
            "near.scores - far.scores": "near.scores + far.scores",
            "sign.to(found) * (found - goal)": "(found - goal)",
            "return sign * _numbers(other)[:, number]": "return _numbers(other)[:, number]",
        },
    ),
    Faults(
        "network/canvas.py",
        "network/test_canvas.py",
        {"(height / down, width / across)": "(height / across, width / down)"},
    ),
    Faults(
        "pictures/input_context.py",
        "network/test_canvas.py",
        {"[0, : size[0], : size[1]]": "[0, -size[0] :, -size[1] :]", "return (0.0, 1 / down)": "return (0.0, 1.0)"},
    ),
    Faults(
        "kit/fusions.py",
        "kit/test_fusions.py",
        {
            "each = each / counted.reshape": "each = each * counted.reshape",
            "spread.append(resize(each, size))": "spread.append(resize(each, size, 'nearest'))",
        },
    ),
    Faults("engine/smoothing.py", "engine/test_path.py", {"space, k / self.path": "space, (k - 1) / self.path"}),
    Faults("methods/seg_xres_cam.py", "methods/test_seg_xres_cam.py", {"ceil_mode=True": "ceil_mode=False"}),
    # volumes, clips, signals
    Faults(
        "pictures/media.py",
        "pictures/test_nifti.py",
        {
            "place[:3, 3] = (steps - 1) / 2": "place[:3, 3] = 0",
            "self._affine @ place": "place @ self._affine",
            'tuple(map(self.order.index, "ijk"))': 'tuple("ijk".index(axis) for axis in self.order)',
            '(float(lengths["ijk".index(axis)]) for axis in self.order)': "map(float, lengths)",
        },
    ),
    Faults("pictures/nifti.py", "pictures/test_nifti.py", {"permute(volume.file_axes)": "permute(2, 1, 0)"}),
    Faults(
        "results/slices.py",
        "results/test_media.py",
        {
            "(cell + 0.5) * self": "cell * self",
            "self.region.take(index, axis)": "self.region.take(0, axis)",
            "self.at or self.peak": "self.peak",
            "self.heat.select(axis - 3, index)": "(h := self.heat.select(axis - 3, index)) / h.amax()",
            "across / least), round(laid.height * down": "down / least), round(laid.height * across",
        },
    ),
    Faults(
        "pictures/films.py",
        "results/test_media.py",
        {
            "palette=palette, dither=Image.Dither.NONE": "256",
            "rate=Fraction(rate or USUAL_RATE)": "rate=Fraction(USUAL_RATE)",
        },
    ),
    Faults(
        "pictures/curves.py",
        "results/test_media.py",
        {"left, right = -step / 2": "left, right = 0.0", 'origin="lower"': 'origin="upper"', "1 / rate if": "1.0 if"},
    ),
    Faults(
        "results/panels.py",
        "results/test_media.py",
        {
            "signed = look.signed or bool((one.maps < 0).any())": "signed = look.signed",
            "raw.sum(1 - time)": "raw.sum(time)",
        },
    ),
    Faults("pictures/media.py", "results/test_media.py", {"or picture.shape[1] == 3 else Volume": "else Volume"}),
    # which layer, and what is said of it
    Faults(
        "network/layers/default_layer.py",
        "network/layers/test_default_layer.py",
        {
            "usable, lasting = [last], False  #": "usable, lasting = [last], True  #",
            "if not feature.bypassed": "if feature.bypassed",
            "len(feature.grid) != 2 and": "True and",
            "cells == 1 < stride": "cells == 1",
        },
    ),
    Faults("engine/layer_plan.py", "engine/test_choice_cost.py", {"if sound and all(": "if all("}),
    Faults(
        "engine/maps.py",
        "kit/test_fusions.py engine/test_explain.py",
        {"else max(records": "else min(records", '"undetermined" if "undetermined" in known else known[0]': "known[0]"},
    ),
    Faults("engine/maps.py", "engine/test_faults.py engine/test_explain.py", {".abs().amax(1) == 0": ".amax(1) <= 0"}),
    Faults(
        "network/input_errors.py",
        "network/test_input_errors.py",
        {"{_short(wanted)} and the inputs {_short(came)}": "{_short(came)} and the inputs {_short(wanted)}"},
    ),
    # Keras
    Faults("network/keras/network.py", "keras_models/test_structures.py", {"_KNOWN = 16": "_KNOWN = 1"}, "jax"),
    # sentences and captions
    Faults(
        "targets/text.py",
        "targets/test_text.py",
        {
            ".logsumexp(1)": ".mean(1)",
            "scale * cosines[:, 0] -": "cosines[:, 0] -",
            "self.scale is None else self.scale": "self.scale is None else asking.logit_scale",
            "live=live) @ units.T": "live=False) @ units.T",
        },
    ),
    Faults(
        "targets/vectors.py",
        "targets/test_text.py",
        {"length if live else length.detach()": "length", "if not live and getattr": "if False and getattr"},
    ),
    Faults(
        "network/two_towers.py",
        "targets/test_text.py",
        {
            'plain = {"normalize": False}': 'plain = {"normalize": True}',
            "if not full:": "if True:",
            "not _TEXTS.isdisjoint(named)": "False",
            "model.get_image_features, **": "model.forward, **",
        },
    ),
    Faults("network/layers/features.py", "targets/test_text.py", {'"residual" not in kinds[name]': "True"}),
    Faults(
        "targets/tokens.py",
        "targets/test_tokens.py",
        {
            'return known["input_ids"], 1': 'return known["input_ids"], 0',
            'return known["labels"], 0': 'return known["labels"], 1',
            "[:, -length:]": "[:, :length]",
            ".log_softmax(-1)": "",
            "own = [0 if same else number for": "own = [0 for",
            "at = stop - 1": "at = len(ids)",
            'name and "pixel_values" in takes and "input_ids" not in takes': "False",
        },
    ),
    Faults("models/sources/hf.py", "models/sources/test_hf.py", {"if not any(map(is_there, files)):": "if False:"}),
    # dense outputs, scales and paths
    Faults(
        "network/layers/segmenter.py",
        "targets/test_segmenter_families.py",
        {
            "and not each.redraws": "",
            "(seeing or coarse)[-1]": "coarse[-1]",
            "stream[:end]": "stream",
            'each.role == "block" or len(each.names) > 1': "True",
            "for each in grown), key=prod)": "for each in grown), key=lambda grid: -prod(grid))",
        },
    ),
    Faults(
        "network/layers/features.py",
        "targets/test_segmenter_families.py",
        {
            '"Adaptive" in found[-1].kind': "False",
            'or role in ("block", "norm")  # as': "or True  # as",
        },
    ),
    Faults(
        "network/layers/features.py",
        "targets/test_segmenters.py",
        {"0 if is_guess(each.layout) else": "", "first.shape[0] != inputs[0]\n": "False\n"},
    ),
    Faults(
        "network/origin.py",
        "targets/test_segmenters.py",
        {
            "found.difference(*map(behind, mixed))": "found",
            "rows is None or bool(rows[0] <= samples)": "False",
            'return not _is_pointwise(node)\n    if _is(node, ("Addmm"': 'return False\n    if _is(node, ("Addmm"',
        },
    ),
    Faults("engine/measure.py", "targets/test_segmenters.py", {"names[tap.module] == {True}": "True"}),
    Faults(
        "targets/outputs.py",
        "targets/test_segmenter_families.py",
        {
            "return values[:, 0]": "return values[:, -1]",
            'return logit, f"{name} holds a probability of': 'return _same, f"{name} holds a probability of',
        },
    ),
    Faults(
        "network/recording/forward.py",
        "network/recording/test_scales.py",
        {
            "len({shape[2:] for shape in shapes}) == len(shapes) > 1": "len(shapes) > 1",
            "return any(True for _ in tree_of(self.model).module(where[0]).parameters())": "return True",
        },
    ),
    Faults(
        "engine/maps.py", "network/recording/test_scales.py", {'fusions.find("sum" if scales else': "fusions.find("}
    ),
    Faults(
        "network/layouts.py",
        "network/test_scales_layout.py",
        {
            "sizes[start:end][::-1]": "sizes[start:end]",
            "range(start + 2, len(sizes) + 1)": "range(start + 1, len(sizes) + 1)",
            "sum(counts[i + 1 :])": "sum(counts[i:])",
        },
    ),
    Faults(
        "network/layers/positions.py",
        "network/test_scales_layout.py",
        {'return "refuted" if "refuted" in found else found[-1]': 'return "verified"'},
    ),
    Faults(
        "engine/provider.py",
        "network/test_scales_layout.py",
        {"setdefault((layer.tap, layer.layout, kind),": "setdefault((layer.tap, None, kind),"},
    ),
    Faults("engine/smoothing.py", "engine/test_path.py", {"inputs.mean(tuple(space), keepdim=True)": "inputs * 0"}),
    Faults(
        "network/attention/capture.py",
        "network/attention/test_capture.py",
        {
            "if func is F.multi_head_attention_forward:": "if False:",
            "attention.rebuilt = _gone": "pass",
            "_CHANGES = {": "_CHANGES = set() and {",
            "if dim not in (-1, output.ndim - 1):": "if dim is None:",
            "trail.keys + tensor.ndim == axis": "True",
            'elif name == "linear" and trail.keys == -1:': "elif False:",
            "if trail.keys == -1 else (trail.key, trail.query)": "",
            "places = [_place(each) for each in moved]": "pass",
            "self._unscaled.get(each, each) for": "each for",
            "elif not self._depends(live):": "elif False:",
            "scores.masked_fill(~mask": "scores.masked_fill(mask",
            ".all(-1, keepdim=True), 0)": ".all(-1, keepdim=True), 1)",
            "dtype=torch.bool).tril()": "dtype=torch.bool).triu()",
            "if scale is None else scale": "if not scale else scale",
            'if options.get("enable_gqa"):': "if False:",
            "returned = _arranged(output, [made.index(axis) for axis in range(len(made))])": "returned = output",
            "value = value.expand(*output.shape[:-2], *value.shape[-2:])": "pass",
            "weakref.ref(self), weakref.ref(attention)": "(lambda: self), (lambda: attention)",
            "elif name not in _CHANGES:": "else:",
            "wide(self.rebuilt())": "self.rebuilt()",
        },
    ),
    Faults(
        "network/attention/unseen.py",
        "network/attention/test_unseen.py",
        {
            "if kernel not in _SEEN:": "if False:",
            '"scaled_dot_product_attention" in code or': "",
            "isinstance(module, torch.jit.ScriptModule) and": "False and",
            "[tensor for _, tensor in tensors(output)]": "[]",
        },
    ),
    Faults("network/keras/state.py", "keras_models/test_left_as_found.py", {"layer._called = called": "pass"}),
    # relevance
    Faults(
        "network/recording/relevance.py",
        "network/recording/test_relevance.py methods/test_cp_lrp.py methods/test_attn_lrp.py",
        {
            "tensor.detach() if isinstance(tensor, nn.Parameter) else tensor": "tensor",
            "F.__file__, torch.autograd.__file__": "F.__file__,",
            "args = (*args, kwargs.pop(word))": "pass",
            "if len(found) < 2:": "if True:",
            "lambda gradient: gradient / parts": "lambda gradient: gradient / 2",
            "(args[0].clone(), *args[1:]) if _writes(func) else args": "args",
            "first = given_to(args[0]).clone()": "first = given_to(args[0])",
            "if not factors:": "if False:",
            "each.detach() if id(each) in closed else": "",
            "or name in self.gates": "",
            "all(_is_gate(each, gates, steps - 1) for each in before)": "False",
            '_SIGMOIDS if rules == "attn_lrp" else _SIGMOIDS | {"Softmax", "SafeSoftmax"}': "_SIGMOIDS",
            "args[0].detach_()": "pass",
            "both = 2 if live(value) and (live(query) or live(key)) else 1": "both = 2",
            "scores = 2 if live(query) and live(key) else 1": "scores = 2",
            "_shared(value, both)": "value",
            "query.detach(), key.detach(), value": "query, key, value",
            "made = given - given.mean(axes, keepdim=True) if center": "made = given if center",
            "squares = wide(made.detach())": "squares = wide(made)",
            "eps, center=False": "eps, center=True",
            "+ gamma * sign * (sign * bias).clamp(min=0)": "",
            "((1, more, less), (-1, less, more))": "((1, more, less), (-1, more, less))",
            "value / (parts.detach() + own)": "1",
            "kept * gate.detach().sigmoid()": "kept * gate.sigmoid()",
            "not _RULED.fullmatch(name) or": "",
            ".masked_fill(given == 0, 0)": "",
            "if name in DIVISIONS and live(args[1]):": "if False:",
            "isinstance(args[1], (int, float)) and args[1] < 0": "False",
        },
    ),
    Faults(
        "network/recording/two_faced.py",
        "network/recording/test_two_faced.py methods/test_transformer_attribution.py",
        {
            "[relevance / count] * count": "[relevance] * count",
            "if name in DIVISIONS and count == 2:": "if False:",
            "([] if passes else given)": "given",
            "value = func(*copied(func, args), **kwargs)": "value = func(*args, **kwargs)",
            "if gradient is None or not ctx.mode.turned:": "if gradient is None or ctx.mode.turned:",
            "value = value.clone()  # the": "pass  # the",
            "more, less = weight.clamp(min=0), weight.clamp(max=0)": "more, less = weight.clamp(min=0), weight",
            "each / 2 for each in _in_proportion(torch.matmul": "each for each in _in_proportion(torch.matmul",
            "each / count for each in of_both": "each for each in of_both",
            "[each / count for each in _in_proportion(again": "[each for each in _in_proportion(again",
            "values.flatten(1).sum(1)": "values.sum().expand(len(values))",
            "_ratio(own.abs(), whole) * total": "own",
            "self.left[name] = None": "pass",
        },
    ),
    Faults(
        "network/attention/folding.py",
        "methods/test_transformer_attribution.py",
        {
            "if tensor.requires_grad else replaced(value, path, tensor.detach().requires_grad_())": "",
            "@ values.mT) / 2": "@ values.mT)",
        },
    ),
    Faults(
        "network/variants/tracing.py",
        "methods/test_cp_lrp.py network/recording/test_relevance.py",
        {
            "wide(self.network.picture.detach()) *": "",
            "self.work.left = tuple(mode.left)": "pass",
        },
    ),
    Faults(
        "network/recording/forward.py",
        "network/recording/test_relevance.py",
        {"with self.relevance or self.faces or nullcontext():": "with self.faces or nullcontext():"},
    ),
    Faults("network/keras/heads.py", "keras_models/test_heads.py", {"id(output) not in taken and len": "len"}),
    Faults(
        "network/keras/network.py",
        "keras_models/test_left_as_found.py",
        {"memory.note(sum(sorted(self.made)[-2:]))": "memory.note(0)"},
        backend="jax",
    ),
    Faults(
        "runs/store.py",
        "runs/test_store.py",
        {
            "self._written > SECONDS": "self._written > 1e9",
            "        self._written = time.monotonic()\n\n    def _spelled": "\n    def _spelled",
            "rows += left.pop(source)": "rows += left.pop(source)[:1]",
            "while self._waiting() >= self._rows_per_shard:": "if self._waiting() > self._rows_per_shard:",
            "if len(rows) >= self._rows_per_shard:": "if len(rows) > self._rows_per_shard:",
            "in self.done or source in waiting:": "in self.done:",
            "_parts(shards[-1])[0] + 1 if shards else 0": "len(shards) % 2",
            "data, synced=True)\n            done |=": "data)\n            done |=",
            "if self._state[0] is shards:": "if False:",
            "done |= waiting.keys() - left.keys()": "pass",
            "self._state = ([*shards, name], left)": "self._state = ([*shards, name], {})",
            "min(found[number], name, key=self._rows)": "max(found[number], name, key=self._rows)",
            'for path in [*shards.glob(".part-*"), *self.folder': "for path in [*self.folder",
            "for name in set(_names(self.folder)) - set(self.shards):": "for name in ():",
            "compute.invert(": "(",
            'compute.is_in(held["source"], value_set=failed)': 'held["error"].is_valid()',
            "!= _parts(name)[1]]": "and not self._path(name).stat().st_size]",
            'if name != "map"] if columns is None': "] if columns is None",
            "(self._ends[shard - 1] if shard else 0)": "(self._ends[shard - 2] if shard else 0)",
            "nullcontext() if kind is None else suppress(WhycamError)": "nullcontext()",
            "(peak == 0 or float(np.finfo(np.float16).tiny) <= peak <=": "(peak <=",
            "<= np.finfo(np.float16).max": "< np.inf",
            "if not (folder / NAME).exists() and any": "if any",
            "if retry:": "if True:",
            "lock.release()\n                raise": "raise",
            "if not (damaged := self.damaged()):": "if (damaged := []) == []:",
            "page_checksum_verification=True": "page_checksum_verification=False",
            "if self._last is None or self._last[0] != name:": "if self._last is None:",
        },
    ),
    Faults(
        "kit/regions.py",
        "kit/test_regions.py",
        {
            "flat > level": "flat >= level",
            "for axis in (1, 0)": "for axis in (0, 1)",
            "columns[-1] + 1, rows[-1] + 1": "columns[-1], rows[-1]",
            "mask.T.flatten()": "mask.flatten()",
            "[0, *lengths] if values[0] else lengths": "lengths",
        },
    ),
    Faults(
        "runs/exporting.py",
        "runs/test_exports.py",
        {
            "if not each.error and content in (None, each.content):": "if not each.error:",
            "made.left_out += [": "_ = [",
            'if table["map_type"][number].is_valid:': 'if table["error"][number].as_py() is None:',
        },
    ),
    Faults(
        "runs/exports/coco.py",
        "runs/test_exports.py",
        {
            "if width is not None and source": "if source",
            "right - left, bottom - top": "right, bottom",
            "if len(images) > 1 else": "if len(images) else",
            "if made.count > 1 else": "if made.count else",
            'table["map_type"].is_valid()': 'table["source"].is_valid()',
        },
    ),
    Faults(
        "runs/exports/pictures.py",
        "runs/test_exports.py",
        {
            "run.explanation(number, each.photo)": "run.explanation(number)",
            "folders[classes[number].as_py()] / file": "folder / file",
            "except WhycamError as error:": "except ZeroDivisionError as error:",
        },
    ),
    Faults(
        "runs/exports/fiftyone.py",
        "runs/test_exports.py",
        {
            "if fiftyone.dataset_exists(name):": "if False:",
            "dataset.delete()": "pass",
            "run.explanation(number), _LONGEST": "run.explanation(number)",
            "if label is not None:": "if True:",
            "(several) or ()) > 1": "(several) or ()) > 9",
            "row = rows[numbers.index(number)]": "row = rows[0]",
        },
    ),
    Faults(
        "runs/looking.py",
        "runs/test_looking.py runs/test_exports.py",
        {
            "np.arange(first, first + len(held))": "np.arange(len(held))",
            "if mapped else []": "if False else []",
            "-pair[1]": "pair[1]",
            'table["target"], table["prediction"], ': 'table["prediction"], table["target"], ',
            "[2] or why for": "[0] or why for",
            'falling = best == (metric is None or metric.better == "higher")': "falling = best",
            "is_null(nan_is_null=True)": "is_null()",
            '("row", "ascending")]': "]",
            ") > 1)": ") > 2)",
        },
    ),
    Faults(
        "cli/runs.py",
        "cli/test_cli_looking.py",
        {
            'them", found)\n        raise typer.Exit(SOME_FAILED)': 'them", found)',
            "if made.left_out:": "if False:",
            'if given in (run.asked.get("metrics") or ()) else given': "if False else given",
            "rows[:number]:": "rows:",
            "made.setdefault(name.strip(), []).append(value.strip())": "made[name.strip()] = [value.strip()]",
            "read_manifest(folder)": "folder",
        },
    ),
    Faults(
        "runs/looking_at_maps.py",
        "runs/test_looking.py",
        {
            "if finite and (name": "if (name",
            "sums[name] / count": "sums[name]",
            "if len(kinds) > 1:": "if False:",
            "][:number]": "]",
            "by is not None and not len(held := held": "not len(held := held",
            'compute.subtract(left["row"], first)': 'left["row"]',
            "first += len(held)": "first += len(left)",
            "if len(left):": "if True:",
            "slice(1, -1),": "slice(1, None),",
            ") & (even < 1)": ")",
            "(share * (1 - even) >= ratio * even * (1 - share))": "(share >= ratio * even)",
        },
    ),
    Faults(
        "runs/lock.py",
        "runs/test_store.py",
        {
            "after_in_child=_close_in_child": "after_in_child=list",
            "if not _is_gone(holder):": "if True:",
            "or words[3] != socket.gethostname()": "",
            "self._made.unlink(missing_ok=True)": "pass",
            "except BlockingIOError:\n": "except ZeroDivisionError:\n",
        },
    ),
    Faults(
        "runs/manifest.py",
        "runs/test_manifest.py",
        {
            "check_head(folder / NAME, found, head": "check_head(folder / NAME, head, head",
            "check_schema(folder / NAME, found, SCHEMA)": "",
            "number, free = 1, folder": "number, free = 2, folder",
        },
    ),
    Faults("kit/files.py", "runs/test_manifest.py", {"or not isinstance(found.get(name), dict)": ""}),
    Faults(
        "runs/running.py",
        "runs/test_run.py",
        {
            "**kept.asked, ": "",
            "if batch < 1:": "if False:",
            "if workers is not None and workers < 0:": "if False:",
            "if any(map(is_of_each, request.targets)):": "if False:",
            "{} if precision is None else": "{} if True else",
            "{} if labels is None else": "{} if True else",
            "left = Left(source, store.done, ": "left = Left(source, frozenset(), ",
        },
    ),
    Faults(
        "runs/left.py",
        "runs/test_parts.py",
        {
            "islice(self.source, k - 1, None, n)": "islice(self.source, k % n, None, n)",
            "if item.id not in self.done": "if True",
            "range(k - 1, self.source.length, n)": "range(0, self.source.length, n)",
        },
    ),
    Faults(
        "runs/parts.py",
        "runs/test_parts.py",
        {
            'for name in ("source", "layers") if': 'for name in ("source",) if',
            "if not 1 <= k <= n:": "if not 1 <= k:",
            "    if new:\n": "    if False:\n",
            "(folder / _FINISHED).unlink(missing_ok=True)": "pass",
            "            _link_pictures(folder, part.folder)\n": "",
            "if len(counts) > 1:": "if False:",
            "or not (by_number[n, k] / _FINISHED).exists()": "",
            "for part in parts[1:]:": "for part in parts[:1]:",
            "if open_ones and not unfinished:": "if open_ones:",
        },
    ),
    Faults(
        "runs/on_ray.py",
        "runs/test_on_ray.py",
        {
            "bool(worker.kept.overlays)": "False",
            "Chunks(_unpickled(self.items), self.size)": "Chunks(_unpickled(self.items), 3)",
            "    if workers == 0:\n": "    if False:\n",
            "if count > there.get(kind, 0):": "if count >= there.get(kind, 0):",
            '        wanted["CPU"] += 1\n': "        pass\n",
        },
    ),
    Faults(
        "adapters.py",
        "test_adapters.py",
        {
            "if name != self._photo}": "}",
            "if taken := sorted(kept.keys() & _MADE):": "if taken := []:",
            "Path(each) if isinstance(each, str) else each": "each",
        },
    ),
    Faults("pictures/photos.py", "runs/test_run.py", {"[:160]": ""}),
    Faults("runs/explaining.py", "runs/test_run.py", {"if couples or several else []": "if couples else []"}),
    Faults("runs/decoding.py", "runs/test_run.py", {"([*held], [*places], torch": "([*held][::-1], [*places], torch"}),
    Faults("kit/files.py", "pictures/test_photos.py", {"    except RuntimeError:": "    except KeyError:"}),
    Faults(
        "page/app.py",
        "page/test_app.py",
        {"color_scale(kept.one, look).high": "color_scale(kept.one, Look()).high", "            served.loading,\n": ""},
    ),
    Faults("cli/serve.py", "cli/test_cli_serve.py", {"            loading=loading,\n": ""}),
    Faults("kit/files.py", "runs/test_faults.py", {"    if alone:\n": "    if False:\n"}),
    Faults("runs/parts.py", "runs/test_faults.py", {"if not half and not (there": "if not (there"}),
    Faults(
        "runs/running.py",
        "runs/test_faults.py",
        {"known=store.has_maps": "known=bool(store.done)"},
    ),
    Faults(
        "runs/decoding.py",
        "runs/test_faults.py",
        {
            "sys.excepthook = _hook": "pass",
            "photo = replace(photo, content=said)": "pass",
            "    for each in (signal.SIGINT, signal.SIGTERM):": "    for each in (signal.SIGINT,):",
            "    main.join()\n    os._exit(1)": "    main.join()",
        },
    ),
    Faults("runs/sources/source.py", "runs/test_run.py", {"readable(self.id)": "self.id"}),
    Faults("runs/store.py", "runs/test_run.py", {"except UnicodeEncodeError:": "except ZeroDivisionError:"}),
    Faults(
        "runs/keeping.py",
        "runs/test_run.py",
        {
            "if self.maps not in TYPES:": "if False:",
            "if file not in _FORMATS:": "if False:",
            "palette(self.look.colormap, self.look.signed)": "None",
            '(overlay if kind == "overlays" else heat_picture)': "overlay",
            "(one, self.look)": "(one, Look())",
            'safe if safe == source else f"{safe}-': 'safe if True else f"{safe}-',
            'or "image"': "",
        },
    ),
    Faults(
        "runs/decoding.py",
        "runs/test_faults.py",
        {
            "        signal.raise_signal(number)": "        pass",
            "            signal.signal(each, lambda number, _: came.append(number))": "            pass",
        },
    ),
    Faults(
        "runs/explaining.py",
        "runs/test_faults.py",
        {"if couples or several else []": "if several else []"},
    ),
    Faults(
        "results/regions.py",
        "runs/test_exports.py",
        {
            "return geometry.on_photo_of((height, width))": "return geometry",
            "min(1.0, longest / max(geometry.photo_size))": "longest / max(geometry.photo_size)",
        },
    ),
    Faults(
        "results/regions.py",
        "results/test_regions.py",
        {
            "return heat > level": "return heat >= level",
            'normalize="max"': 'normalize="minmax"',
            'on == "input" or geometries is None': "True",
            "if left > right or top > bottom:": "if False:",
            "return made != 0": "return made == 0",
            "if len(one) != len(maps):": "if False:",
        },
    ),
    Faults(
        "kit/regions.py",
        "results/test_regions.py",
        {
            "np.ones((3, 3))": "None",
            "np.argsort(-areas": "np.argsort(areas",
            "(columns >= left)": "(columns > left - 1)",
        },
    ),
    Faults(
        "kit/words.py",
        "runs/test_sources.py",
        {'.encode("utf-8", "surrogateescape")': '.encode("utf-8", "replace")'},
    ),
    Faults(
        "kit/behind.py",
        "runs/test_run.py",
        {
            "        while waiting:\n            yield waiting.popleft().result()\n": "",
            "if len(waiting) > threads:": "if False and threads:",
        },
    ),
    Faults(
        "evaluation/columns.py",
        "runs/test_run.py",
        {
            "explained.targets.index(key[2]) if one.target else 0": "0",
            "found.unmeasured.setdefault(key, []).append(": "str(",
        },
    ),
    Faults(
        "runs/explaining.py",
        "runs/test_run.py",
        {
            "        self.known = True": "        pass",
            '4 if device_of(session.module).type == "cpu" else 16': "16",
            "return each.item.target is None, *shape": "return *shape",
            "request = replace(request, targets=([each.item.target for each in several],))": "pass",
            "                refused.append(Made(several, error=error))": "                pass",
        },
    ),
    Faults(
        "runs/decoding.py",
        "runs/test_run.py",
        {
            "generator=torch.Generator(),": "",
            "islice(drawn, self.size)": "drawn",
            "return Decoded(item, error=error)": "raise",
        },
    ),
    Faults(
        "runs/rows.py",
        "runs/test_run.py",
        {
            "for (method, layer, _), why in made.failures.items():": "for (method, layer, _), why in ():",
            "explanation.maps[number]": "explanation.maps[0]",
            "explanation.scores[number]": "explanation.scores[0]",
            "explanation.target[number]": "explanation.target[0]",
            "explanation.context.geometries[number]": "explanation.context.geometries[0]",
            "if photo is not None and photo.size != geometry.photo_size:": "if False:",
            "inputs, photos = torch.zeros(1, 3, *geometry.input_size), None if photo is None else (photo,)": (
                "inputs, photos = torch.zeros(1, 3, *geometry.input_size), None"
            ),
        },
    ),
    Faults(
        "runs/sources/source.py",
        "runs/test_sources.py",
        {
            "key=lambda name: name not in photos_first": "key=usual.index",
            "name.strip().casefold(): name": "name: name",
            "passed.add(item.id)": "pass",
            r"(?:\.0)?": "",
            r"(-?\d": r"(\d",
            "else text or None": "else text",
            "str(value).strip() or None": "str(value).strip()",
        },
    ),
    Faults(
        "runs/sources/files.py",
        "runs/test_sources.py",
        {
            "above | {here}": "frozenset([here])",
            "sorted(names)": "reversed(sorted(names))",
            'patterns |= {each[1:] for each in patterns if each[0] == "**"}': "pass",
            "name.lower().endswith": "name.endswith",
            'if not entry.name.startswith("."):': "if True:",
            "or (entry.is_symlink() and Path(entry.path).is_dir())": "",
            "or given.exists()": "",
            "{number:0{len(first)}}": "{number}",
            "int(last) + 1": "int(last)",
            "file.absolute().parent for file in files": "file.absolute().parent for file in files[:1]",
            "found |= dict.fromkeys(files)": "found |= dict.fromkeys(files[:1])",
        },
    ),
    Faults(
        "runs/sources/folder.py",
        "runs/test_sources.py",
        {
            "if labels and len(inside.parts) > 1": "if labels",
            "inside.parts[0]": "inside.parts[-2]",
            "{Path(source).as_posix()}/": "{source}/",
            "is not None else None": "is not None else found",
        },
    ),
    Faults(
        "runs/sources/lists.py",
        "runs/test_sources.py",
        {
            'and not named.startswith("#")': "",
            "Item(names(id_of(Path(named))), path": "Item(id_of(Path(named)), path",
            "else names(id_of(Path(named)))": "else id_of(Path(named))",
            'if "id" in columns else items': "if False else items",
            'if value.get(what) == ""': "if False",
            '".tsv": "\\t"': '".tsv": ","',
        },
    ),
    Faults(
        "runs/sources/tar.py",
        "runs/test_sources.py",
        {
            'key=lambda ending: "." in ending': 'key=lambda ending: "." not in ending',
            "if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):": "if False:",
            "member.isreg() and key and": "member.isreg() and",
            "folder + slash + key": "key",
            "ending.lower(), held.read": "ending.lower(), (lambda data: lambda: data)(held.read())",
            "if isinstance(said, dict) else {}": "",
        },
    ),
    Faults(
        "runs/sources/parquet.py",
        "runs/test_sources.py",
        {
            "pre_buffer=False": "pre_buffer=True",
            "number += 1": "",
            "0 <= label < len(classes)": "label < len(classes)",
            'value.get("bytes") or value.get("path")': 'value.get("path") or value.get("bytes")',
            "folder / value if isinstance": "Path(value) if isinstance",
            "if named else items": "if False else items",
            "length += held.metadata.num_rows": "length = held.metadata.num_rows",
        },
    ),
    Faults(
        "runs/sources/iterable.py",
        "runs/test_sources.py",
        {
            "each_once(map(_item, source)": "each_once(list(map(_item, source))",
            "str(name), ": "name, ",
            "if length == 0:": "if False:",
            "Path(photo) if isinstance(photo, str) else photo": "photo",
        },
    ),
    Faults(
        "training/overlays.py",
        "training/test_overlays.py",
        {
            "if every < 1:": "if every < 0:",
            'if method is not None and method != "auto":': "if False:",
            "if epoch % self.every or": "if (epoch + 1) % self.every or",
            "or not _first_process()": "",
            "if step is None else step": "",
            "except Exception as error:  # a map": "except WhycamError as error:  # a map",
            "            return None\n        return explanation": "            raise\n        return explanation",
            "if reason not in self._said:": "if True:",
            "read_photo(image) if isinstance(image, (str, Path)) else image": "image",
            "            each.training = False\n": "            each.eval()\n",
            "            each.training = was\n": "            pass\n",
            "with _evaluating(model):": "with _evaluating(None):",
            "if isinstance(model, nn.Module) and self.module else model": "if False else model",
            "with torch.random.fork_rng(devices=[]):": "if True:",
            "        random.setstate(python)\n": "",
            "        np.random.set_state(numpy)\n": "",
            '("device_mesh", "ds_id")': '("ds_id",)',
            "return spread or": "return spread and",
        },
    ),
    Faults(
        "training/overlays.py",
        "training/test_loggers.py",
        {'hasattr(type(each), "experiment")': "False", "return [*several] or [self.logger]": "return [*several]"},
    ),
    Faults(
        "training/loggers.py",
        "training/test_loggers.py",
        {
            ', f"{tag}/step": step})': "}, step=step)",
            "caption=name": "",
            'dataformats="HWC"': 'dataformats="CHW"',
            "global_step=step": "global_step=0",
            "[*pictures.values()]": "next(iter(pictures.values()))",
            "step is None or not needed <=": "not needed <=",
            "not needed <= {picture": "not set() <= {picture",
            '{"run_id": logger.run_id} if': "{} if",
            "_add_image(logger.experiment) or": "",
            "for name, each in pictures.items():": "for name, each in [*pictures.items()][:1]:",
        },
    ),
    Faults(
        "training/lightning.py",
        "training/test_lightning.py",
        {
            "trainer.current_epoch + 1, trainer": "trainer.current_epoch, trainer",
            "[*in_use, *there][0]": "there[-1]",
            "if not there:": "if False:",
            "if self.asks_trainer:": "if self.asks_trainer and self.overlays.logger is _nowhere:",
            "            continue  # such as one": "            raise  # such as one",
            "    if not found:": "    if False:",
        },
    ),
    Faults(
        "training/late.py",
        "training/test_lightning.py",
        {"(self._own,), self.__dict__": "(self._own,), {}", "(own, *bases), {": "(own,), {"},
    ),
    Faults(
        "training/hugging_face.py",
        "training/test_hugging_face.py",
        {
            "except ModuleNotFoundError": "except KeyError",
            'before the training."""\n        self': 'before the training."""\n        0 and self',
            "round(state.epoch or 0)": "round(state.epoch or 0) + 1",
            ", state.global_step)": ")",
        },
    ),
    Faults(
        "results/drawing.py",
        "training/test_overlays.py",
        {'r"[^ -~]"': 'r"[^ -ÿ]"', "_FILM // min(picture.size)": "_FILM // max(picture.size) // 2"},
    ),
]


def main(words: list[str]) -> int:
    chosen = [
        (each, old, new)
        for each in FAULTS
        for old, new in each.planted.items()
        if not words or any(word in each.file + old for word in words)
    ]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for fault, old, new in chosen:
            verdict = tried(fault, old, new, copy)
            missed += verdict != "caught"
            print(f"{verdict:9s} {fault.file}: {old.strip()} -> {new.strip()}", flush=True)
    print(f"{len(chosen)} faults, {missed} not caught")
    return int(bool(missed))


def tried(fault: Faults, old: str, new: str, copy: Path) -> str:
    """The verdict on one fault, which is put back."""
    path = copy / "whycam" / fault.file
    text = path.read_text() if path.exists() else ""
    if text.count(old) != 1:
        return "GONE"
    if not passes(fault.tests, fault.backend, copy):
        return "BROKEN"
    path.write_text(text.replace(old, new))
    try:
        return "SURVIVED" if passes.__wrapped__(fault.tests, fault.backend, copy) else "caught"
    finally:
        path.write_text(text)


@functools.cache
def passes(tests: str, backend: str, copy: Path) -> bool:
    """Whether the tests pass with a copy of the package; asked once for the copy as it is."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-o", "addopts=--import-mode=importlib", "-k", "not compil"]
    command += ["-m", "not slow", "-p", "no:cacheprovider", *(str(TESTS / name) for name in tests.split())]
    settings = {"PYTHONPATH": str(copy), "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=TESTS.parent, env=os.environ | settings, capture_output=True, timeout=900)
    except subprocess.TimeoutExpired:
        return False  # whoever waits for it will see
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
