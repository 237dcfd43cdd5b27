"""Call a user's compiled function by its address, so that kernels need not be compiled anew for each.

Without the JIT the "address" is a key of `mmsim._jit.FUNCTIONS`, under which the Python function stands.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import if_unlikely
from numba.extending import intrinsic

from mmsim._jit import FUNCTIONS, NO_JIT, kernel


@intrinsic  # type: ignore[untyped-decorator]
def _share(
    typingctx: Any, address: Any, ahead: Any, behind: Any, gone: Any
) -> Any:  # pragma: no cover (numba's)
    signature = types.int64(types.int64, types.int64, types.int64, types.int64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        fn = builder.inttoptr(args[0], ir.FunctionType(i64, [i64, i64, i64]).as_pointer())
        return builder.call(fn, args[1:])

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def _decide(  # pragma: no cover (numba runs it)
    typingctx: Any, address: Any, obs: Any, want: Any, params: Any, memory: Any
) -> Any:
    signature = types.void(types.int64, obs, want, types.int64, memory)
    kinds = (obs, want, types.voidptr, memory)  # its parameters are a record of its own: one pointer

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # numba's own calling convention, so that what the function raises comes through
        entry = context.call_conv.get_function_type(types.none, kinds)
        fn = builder.inttoptr(args[0], entry.as_pointer())
        given = builder.inttoptr(args[3], context.get_value_type(types.voidptr))
        values = (args[1], args[2], given, args[4])
        status, _ = context.call_conv.call_function(builder, fn, types.none, kinds, values)
        with if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return signature, codegen


@kernel
def call_share(address: int, ahead: int, behind: int, gone: int) -> int:
    """Return what the user's queue function at `address` answers."""
    if NO_JIT:
        return FUNCTIONS[int(address)](ahead, behind, gone)  # type: ignore[no-any-return]
    return _share(address, ahead, behind, gone)  # type: ignore[no-any-return]  # pragma: no cover (JIT)


@kernel
def call_decide(address: int, obs: Any, want: Any, params: int, memory: Any) -> None:
    """Let the compiled strategy at `address` write its quotes to `want`; `params`: address of its parameters."""
    if NO_JIT:
        FUNCTIONS[int(address)](obs, want, FUNCTIONS[int(params)], memory)
    else:
        _decide(address, obs, want, params, memory)  # pragma: no cover (JIT)


@kernel
def ask(address: int, obs: Any, want: Any, params: int, memory: Any) -> None:
    """Do the same from Python: `obs` and `want` are arrays of one record."""
    call_decide(address, obs[0], want[0], params, memory)
