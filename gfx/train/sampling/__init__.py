"""Samplers: which subnets of a supernet a step of training runs."""

from gfx.train.sampling.published_samplers import SandwichSampler, TeacherSampler, UniformSampler
from gfx.train.sampling.sampler import Elastic, SampledNet, Sampler
from gfx.train.sampling.sampler_registry import read_sampler, samplers

__all__ = [
    "SAMPLERS",
    "Elastic",
    "SampledNet",
    "Sampler",
    "SandwichSampler",
    "TeacherSampler",
    "UniformSampler",
    "read_sampler",
    "samplers",
]

SAMPLERS = (UniformSampler, SandwichSampler, TeacherSampler)
