// Vectors of the compiler's own, for loops over raw pointers. The last header that a source
// includes: in what follows it, multiplications and additions may be joined, because no integer
// hangs on sums.
#pragma once

#include <cstring>

#define DEEPLAB2_D2_INLINE inline __attribute__((always_inline))

namespace deeplab2_d2 {

template <typename T, int num_lanes>
struct Lanes {
  typedef T type __attribute__((vector_size(num_lanes * sizeof(T))));
};

// From and to any address. A vector is filled rather than returned: returned, its calling
// convention would depend on the instruction set.
template <typename Vector, typename T>
DEEPLAB2_D2_INLINE void load(const T* from, Vector& values) {
  static_assert(sizeof(Vector) % sizeof(T) == 0, "values of the vector's type");
  std::memcpy(&values, from, sizeof(values));
}

template <typename Vector, typename T>
DEEPLAB2_D2_INLINE void store(const Vector& values, T* to) {
  static_assert(sizeof(Vector) % sizeof(T) == 0, "values of the vector's type");
  std::memcpy(to, &values, sizeof(values));
}

}  // namespace deeplab2_d2
