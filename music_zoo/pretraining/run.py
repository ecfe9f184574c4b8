"""One run of pretraining, from settings and data to a preset: what `music-zoo pretrain` does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from music_zoo.classifier import Classifier
from music_zoo.datasets import AudioFolder, LogMelDataset, dequantize
from music_zoo.datasets.batches import ImageBatches
from music_zoo.errors import DatasetError, PretrainingError
from music_zoo.layers import FrontEnd
from music_zoo.layers.augmentation import CHAINS, TwoSegments
from music_zoo.models import named_configs
from music_zoo.pretraining import METHODS, Pretrainer, TwoViews
from music_zoo.pretraining.checkpoints import Checkpoint
from music_zoo.pretraining.schedules import warmup_cosine
