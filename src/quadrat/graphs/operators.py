"""The operators that a graph may use: numbers in, numbers out, sizes known before it runs.

Left out: branches and loops (If, Loop, Scan), random numbers, sequences, texts, recurrent layers,
and operators whose output's size depends on values (NonZero, Unique, NonMaxSuppression, ...).
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh DequantizeLinear Div Dropout Elu Equal
    Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow
    QuantizeLinear Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign
    Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
    """
)
PRODUCTS = _names(
    """
    Conv ConvInteger ConvTranspose Einsum Gemm MatMul MatMulInteger QLinearConv QLinearMatMul
    """
)
WINDOWS = _names(
    """
    AveragePool LRN LpPool MaxPool
    """
)
REDUCTIONS = _names(
    """
    ArgMax ArgMin BatchNormalization CumSum DynamicQuantizeLinear GlobalAveragePool
    GlobalLpPool GlobalMaxPool GroupNormalization Hardmax InstanceNormalization
    LayerNormalization LogSoftmax LpNormalization MeanVarianceNormalization RMSNormalization
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Softmax TopK
    """
)
PLACES = _names(
    """
    Concat Constant ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather GatherElements
    GatherND GridSample OneHot Pad Range Reshape Resize ScatterElements ScatterND Shape Size
    Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Upsample
    """
)
ALLOWED = ELEMENTWISE | PRODUCTS | WINDOWS | REDUCTIONS | PLACES
# what exporters compute shapes with
FOLDED = _names(
    """
    Abs Add And Cast Ceil Clip Concat Constant ConstantOfShape Div Equal Expand Flatten Floor
    Gather GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual Max Min
    Mod Mul Neg Not Or Pow Range Relu ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round
    ScatterElements ScatterND Shape Size Slice Split Sqrt Squeeze Sub Tile Transpose Unsqueeze
    Where
    """
)
# operators whose meaning has not changed since opset 13: a head of these joins any backbone
STABLE = _names(
    """
    Add Div Flatten Gather GatherElements Gemm GlobalMaxPool Identity LessOrEqual MatMul Mul Pow
    ReduceSum Softmax Sqrt Sub Unsqueeze Where
    """
)
