#include "crf_rows.h"

#include <algorithm>

#include "../dispatch.h"
#include "../exponential.h"

#define DEEPLAB2_D2_INLINE inline __attribute__((always_inline))

namespace deeplab2_d2 {
namespace {

constexpr double kNegligible = 1e-26;

// Vectors that stay in registers over a sum. Rows begin anywhere.
typedef float FloatLanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));
typedef double DoubleLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(8)));

template <typename scalar_t>
struct LanesOf;
template <>
struct LanesOf<float> {
  using Type = FloatLanes;
};
template <>
struct LanesOf<double> {
  using Type = DoubleLanes;
};

// row[0 .. kBlocks * kLanes - 1] += sum of weights[i] * values[vertices[i]], of columns of a table.
template <int kBlocks, typename scalar_t>
DEEPLAB2_D2_INLINE void read_block(const scalar_t* values, int64_t width, const int32_t* vertices,
                                   const scalar_t* weights, int64_t count, scalar_t* row) {
  using Lanes = typename LanesOf<scalar_t>::Type;
  Lanes* result = reinterpret_cast<Lanes*>(row);
  Lanes sums[kBlocks];
  for (int block = 0; block < kBlocks; ++block) {
    sums[block] = result[block];
  }
  for (int64_t i = 0; i < count; ++i) {
    const Lanes* source = reinterpret_cast<const Lanes*>(values + vertices[i] * width);
    for (int block = 0; block < kBlocks; ++block) {
      sums[block] += source[block] * weights[i];
    }
  }
  for (int block = 0; block < kBlocks; ++block) {
    result[block] = sums[block];
  }
}

// sums[vertices[i]] += weights[i] * row, of columns of a table.
template <int kBlocks, typename scalar_t>
DEEPLAB2_D2_INLINE void add_block(const scalar_t* row, int64_t width, const int32_t* vertices,
                                  const scalar_t* weights, int64_t count, scalar_t* sums) {
  using Lanes = typename LanesOf<scalar_t>::Type;
  Lanes own[kBlocks];
  for (int block = 0; block < kBlocks; ++block) {
    own[block] = reinterpret_cast<const Lanes*>(row)[block];
  }
  for (int64_t i = 0; i < count; ++i) {
    Lanes* target = reinterpret_cast<Lanes*>(sums + vertices[i] * width);
    for (int block = 0; block < kBlocks; ++block) {
      target[block] += own[block] * weights[i];
    }
  }
}

constexpr int64_t kMostCorners = 6;

// Shares of a pixel times a factor.
template <typename scalar_t>
struct Weights {
  DEEPLAB2_D2_INLINE Weights(const PixelFilter<scalar_t>& filter, int64_t pixel, scalar_t factor) {
    for (int64_t i = 0; i < filter.corners; ++i) {
      of[i] = scalar_t(filter.shares[pixel * filter.corners + i]) * factor;
    }
  }
  scalar_t of[kMostCorners];
};

template <int kBlocks, typename scalar_t>
DEEPLAB2_D2_INLINE void read_columns(const PixelFilter<scalar_t>* filters, int64_t num_filters,
                                     int64_t pixel, int64_t width, int64_t column, scalar_t* row) {
  for (int64_t f = 0; f < num_filters; ++f) {
    const PixelFilter<scalar_t>& filter = filters[f];
    if (filter.values != nullptr) {
      const Weights<scalar_t> weights(filter, pixel, filter.slice_factors[pixel]);
      read_block<kBlocks>(filter.values + column, width, filter.vertices + pixel * filter.corners,
                          weights.of, filter.corners, row + column);
    }
  }
}

template <int kBlocks, typename scalar_t>
DEEPLAB2_D2_INLINE void add_columns(const PixelFilter<scalar_t>* filters, int64_t num_filters,
                                    int64_t pixel, int64_t width, int64_t column,
                                    const scalar_t* row) {
  for (int64_t f = 0; f < num_filters; ++f) {
    const PixelFilter<scalar_t>& filter = filters[f];
    if (filter.sums != nullptr) {
      const scalar_t factor =
          filter.splat_factors == nullptr ? scalar_t(1) : filter.splat_factors[pixel];
      const Weights<scalar_t> weights(filter, pixel, factor);
      add_block<kBlocks>(row + column, width, filter.vertices + pixel * filter.corners, weights.of,
                         filter.corners, filter.sums + column);
    }
  }
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE void blur_rows_of(const scalar_t* values, int64_t width,
                                     const int32_t* neighbors, int64_t begin, int64_t end,
                                     scalar_t* out) {
  using Lanes = typename LanesOf<scalar_t>::Type;
  for (int64_t row = begin; row < end; ++row) {
    const scalar_t* own = values + row * width;
    const scalar_t* before = values + neighbors[2 * row] * width;
    const scalar_t* after = values + neighbors[2 * row + 1] * width;
    for (int64_t column = 0; column < width; column += kLanes) {
      *reinterpret_cast<Lanes*>(out + row * width + column) =
          *reinterpret_cast<const Lanes*>(own + column) +
          (*reinterpret_cast<const Lanes*>(before + column) +
           *reinterpret_cast<const Lanes*>(after + column)) *
              scalar_t(0.5);
    }
  }
}

// The softmax of a row, in place.
template <typename scalar_t>
DEEPLAB2_D2_INLINE void normalize_row(scalar_t* row, int64_t width) {
  using Lanes = typename LanesOf<scalar_t>::Type;
  Lanes largest = *reinterpret_cast<Lanes*>(row), total = {};
  for (int64_t column = kLanes; column < width; column += kLanes) {
    const Lanes own = *reinterpret_cast<Lanes*>(row + column);
    largest = own > largest ? own : largest;
  }
  scalar_t top = largest[0], sum = 0;
  for (int64_t lane = 1; lane < kLanes; ++lane) {
    top = largest[lane] > top ? largest[lane] : top;
  }
  for (int64_t column = 0; column < width; ++column) {
    const scalar_t power = exp_nonpositive(row[column] - top);
    row[column] = power > scalar_t(kNegligible) ? power : scalar_t(0);
  }
  for (int64_t column = 0; column < width; column += kLanes) {
    total += *reinterpret_cast<Lanes*>(row + column);
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sum += total[lane];
  }
  const scalar_t factor = 1 / sum;
  for (int64_t column = 0; column < width; ++column) {
    row[column] *= factor;
  }
}

// kBlocks: lanes of a row that are kept in registers; `width` is a multiple of them.
template <int kBlocks, typename scalar_t>
DEEPLAB2_D2_INLINE void update_pixels_of(const scalar_t* scores, int64_t width,
                                         const PixelFilter<scalar_t>* filters, int64_t num_filters,
                                         int64_t begin, int64_t end, scalar_t* row,
                                         scalar_t* rows) {
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    std::copy_n(scores + pixel * width, width, row);
    for (int64_t column = 0; column < width; column += kBlocks * kLanes) {
      read_columns<kBlocks>(filters, num_filters, pixel, width, column, row);
    }
    normalize_row(row, width);
    for (int64_t column = 0; column < width; column += kBlocks * kLanes) {
      add_columns<kBlocks>(filters, num_filters, pixel, width, column, row);
    }
    if (rows != nullptr) {
      std::copy_n(row, width, rows + (pixel - begin) * width);
    }
  }
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE void update_pixels_of(const scalar_t* scores, int64_t width,
                                         const PixelFilter<scalar_t>* filters, int64_t num_filters,
                                         int64_t begin, int64_t end, scalar_t* row,
                                         scalar_t* rows) {
  if (width % (4 * kLanes) == 0) {
    update_pixels_of<4>(scores, width, filters, num_filters, begin, end, row, rows);
  } else if (width % (3 * kLanes) == 0) {
    update_pixels_of<3>(scores, width, filters, num_filters, begin, end, row, rows);
  } else if (width % (2 * kLanes) == 0) {
    update_pixels_of<2>(scores, width, filters, num_filters, begin, end, row, rows);
  } else {
    update_pixels_of<1>(scores, width, filters, num_filters, begin, end, row, rows);
  }
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE void sum_rows_of(const scalar_t* values, int64_t width, const int32_t* starts,
                                    const int32_t* sources, int64_t begin, int64_t end,
                                    scalar_t* out) {
  for (int64_t i = begin; i < end; ++i) {
    std::fill_n(out + i * width, width, scalar_t(0));
    for (int32_t j = starts[i]; j < starts[i + 1]; ++j) {
      const scalar_t* source = values + sources[j] * width;
      for (int64_t column = 0; column < width; ++column) {
        out[i * width + column] += source[column];
      }
    }
  }
}

}  // namespace

DEEPLAB2_D2_CLONES void update_pixels(const float* scores, int64_t width,
                                      const PixelFilter<float>* filters, int64_t num_filters,
                                      int64_t begin, int64_t end, float* row, float* rows) {
  update_pixels_of(scores, width, filters, num_filters, begin, end, row, rows);
}

void update_pixels(const double* scores, int64_t width, const PixelFilter<double>* filters,
                   int64_t num_filters, int64_t begin, int64_t end, double* row, double* rows) {
  update_pixels_of(scores, width, filters, num_filters, begin, end, row, rows);
}

DEEPLAB2_D2_CLONES void sum_rows(const float* values, int64_t width, const int32_t* starts,
                                 const int32_t* sources, int64_t begin, int64_t end, float* out) {
  sum_rows_of(values, width, starts, sources, begin, end, out);
}

void sum_rows(const double* values, int64_t width, const int32_t* starts, const int32_t* sources,
              int64_t begin, int64_t end, double* out) {
  sum_rows_of(values, width, starts, sources, begin, end, out);
}

DEEPLAB2_D2_CLONES void blur_rows(const float* values, int64_t width, const int32_t* neighbors,
                                  int64_t begin, int64_t end, float* out) {
  blur_rows_of(values, width, neighbors, begin, end, out);
}

void blur_rows(const double* values, int64_t width, const int32_t* neighbors, int64_t begin,
               int64_t end, double* out) {
  blur_rows_of(values, width, neighbors, begin, end, out);
}

}  // namespace deeplab2_d2
