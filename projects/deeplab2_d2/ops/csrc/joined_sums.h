// The last header of a source on whose sums no integer hangs: in what follows it, multiplications
// and additions may be joined.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#elif defined(__clang__)
#pragma clang fp contract(fast)
#endif
