"""What every operator stands on. ``target``: the CPU's vectors and the tiles that fit them; ``compile``: functions,
whose code is kept on disk; ``emit``: vector code, which ``intrinsics`` and those of the operators are written in;
``lines`` and ``activations``: what is done to lines and numbers; ``arrays``: addresses, steps, scratch memory;
``workers``: threads.
"""
