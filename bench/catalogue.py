"""What is measured: each subject's program, its environment, and how it is held to AVX2."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Isa = Literal["native", "avx2"]

# oneDNN is in torch, OpenVINO and CTranslate2; MKL in torch and CTranslate2.
_AVX2: Final = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
_TORCH_AVX2: Final = {**_AVX2, "ATEN_CPU_CAPABILITY": "avx2"}

# Held to AVX2, OpenVINO 2026.4.1 crashes in its first step (a segmentation fault) as it is: it quantizes activations
# and rounds to bfloat16 by kernels that oneDNN's limit does not reach. Without either it runs, in 32 bits.
_OPENVINO_AVX2: Final = ("INFERENCE_PRECISION_HINT=f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE=0")

# llama.cpp is compiled for what it shall use.
_LLAMA_CPP: Final[Mapping[Isa, str]] = {
    "native": "-DGGML_NATIVE=ON",
    "avx2": "-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of a peer.

    Attributes:
        name: of the folder.
        requirements: which of bench/peers/*.txt it holds.
        variables: what it is installed with.
    """

    name: str
    requirements: str
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A subject under one instruction set.

    Attributes:
        name: the subject, as results name it.
        isa: the best instruction set of the machine, or AVX2.
        program: the module under bench/peers that runs it.
        arguments: what it is given; "{checkpoint}", "{int8}", "{int4}" and "{workshop}" are folders.
        environment: where it runs, None for this project's own environment.
        variables: what it runs with.
    """

    name: str
    isa: Isa
    program: str
    arguments: tuple[str, ...]
    environment: Environment | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def catalogue() -> list[Entry]:
    """Every subject, in the order of the results. ONNX Runtime cannot be held to AVX2: it asks the processor alone."""
    entries = []
    isas: tuple[Isa, ...] = ("native", "avx2")
    for isa in isas:
        held = isa == "avx2"
        torch = _TORCH_AVX2 if held else {}
        ours = {"NATIVE_ISA": "avx2"} if held else {}
        entries += [
            Entry("native-int8", isa, "ours", ("{int8}", "native"), variables=ours),
            Entry("native-int4", isa, "ours", ("{int4}", "native"), variables=ours),
            Entry("reference", isa, "ours", ("{checkpoint}", "reference"), variables=torch),
            Entry("baseline", isa, "baseline", ("{checkpoint}",), variables=torch),
        ]
        name = "llama.cpp" + "-avx2" * held
        llama_cpp = Environment(name, "llama.cpp", {"CMAKE_ARGS": f"{_LLAMA_CPP[isa]} -DLLAVA_BUILD=OFF"})
        for kind in ("q8_0", "q4_0"):
            arguments = ("{checkpoint}", "{workshop}", kind)
            entries.append(Entry(f"llama.cpp-{kind}", isa, "llama_cpp", arguments, llama_cpp))
        converted = ("{checkpoint}", "{workshop}")
        entries += [
            Entry(
                "openvino-int8", isa, "openvino", converted + _OPENVINO_AVX2 * held,
                Environment("openvino", "openvino"), torch,
            ),
            Entry(
                "ctranslate2-int8", isa, "ctranslate2", converted, Environment("ctranslate2", "ctranslate2"),
                {**_AVX2, "CT2_FORCE_CPU_ISA": "AVX2"} if held else {},
            ),
        ]  # fmt: skip
    onnxruntime = Environment("onnxruntime", "onnxruntime")
    entries.append(Entry("onnxruntime-int8", "native", "onnxruntime", ("{checkpoint}", "{workshop}"), onnxruntime))
    return entries
