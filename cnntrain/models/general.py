"""Kinds of layers, whatever the number of their dimensions: PyTorch's classes above `Conv2d`, `BatchNorm2d`, ..."""

from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.conv import _ConvNd as Convolution
from torch.nn.modules.dropout import _DropoutNd as Dropout
from torch.nn.modules.pooling import _AvgPoolNd as AvgPool
from torch.nn.modules.pooling import _MaxPoolNd as MaxPool

__all__ = ["AvgPool", "BatchNorm", "Convolution", "Dropout", "MaxPool"]
