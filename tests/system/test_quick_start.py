"""The start of a command that serves, in processes of its own: what is put off, and when it is there."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from flan_lora.system.quick_start import quick_start, started

ROOT = Path(__file__).parents[2]
HEAD = """
import gc, sys
from flan_lora.system.quick_start import quick_start, started

def is_deferred():
    return "activate_meta" not in vars(sys.modules["torch._meta_registrations"])

def product_of_no_numbers():
    import torch
    try:
        codes = torch.empty(3, 3, device="meta", dtype=torch.int8)
        return tuple(torch._int_mm(codes, codes).shape)
    except NotImplementedError:
        return "no kernel"
"""


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", HEAD + code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_meta_kernels_wait_for_whoever_traces() -> None:
    found = run(
        "with quick_start(answers_once=True):\n"
        "    import torch\n"
        "    print(is_deferred(), product_of_no_numbers())\n"
        "    import torch._dynamo\n"
        "    print(is_deferred(), product_of_no_numbers())\n"
    )
    assert found == ["True no kernel", "False (3, 3)"]


def test_whoever_reads_the_module_gets_all_of_it() -> None:
    found = run(
        "with quick_start(answers_once=True):\n"
        "    from torch._meta_registrations import meta_index_Tensor\n"
        "    print(is_deferred(), product_of_no_numbers())\n"
    )
    assert found == ["False (3, 3)"]


def test_garbage_is_searched_for_again_once_started() -> None:
    found = run(
        "with quick_start(answers_once=True):\n"
        "    print(gc.isenabled())\n"
        "    started()\n"
        "    print(gc.isenabled(), gc.get_freeze_count() > 1000)\n"
        "try:\n"
        "    with quick_start(answers_once=True):\n"
        "        raise ValueError\n"
        "except ValueError:\n"
        "    print(gc.isenabled())\n"
    )
    assert found == ["False", "True True", "True"]


def test_a_process_that_has_torch_is_left_as_it_is() -> None:
    import torch  # noqa: F401

    finders, frozen = list(sys.meta_path), gc.get_freeze_count()
    with quick_start(answers_once=True):
        assert gc.isenabled() and sys.meta_path == finders
        started()
    assert gc.isenabled() and gc.get_freeze_count() == frozen


def test_a_command_that_serves_answers_without_meta_kernels() -> None:
    found = run(
        "from flan_lora.cli import main\n"
        "main(['generate', 'i am so happy', '--adapter', 'emotion'], standalone_mode=False)\n"
        "print(is_deferred(), gc.isenabled())\n"
        "import transformers\n"
        "print(is_deferred(), product_of_no_numbers())\n"
    )
    assert found == ["joy", "True True", "False (3, 3)"]


def test_a_command_that_stays_up_has_the_meta_kernels() -> None:
    found = run(
        "with quick_start(answers_once=False):\n"
        "    import torch\n"
        "    print(is_deferred(), product_of_no_numbers())\n"
    )
    assert found == ["False (3, 3)"]


def test_what_answers_once_samples_and_searches_by_beams() -> None:
    ask = "main(['generate', 'i am so happy', '--adapter', 'summarization', *{}], standalone_mode=False)\n"
    found = run(
        "from flan_lora.cli import main\n"
        + ask.format(["--num-beams", "3"])
        + "print(is_deferred())\n"
        + ask.format(["--temperature", "1.5", "--seed", "3", "--num-beams", "1"])
        + "print(is_deferred())\n"
    )
    assert found[1::2] == ["True", "False"] and all(found[::2])
