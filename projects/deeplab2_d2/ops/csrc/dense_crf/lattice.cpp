#include "lattice.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>

#include "simplex.h"

namespace deeplab2_d2 {
namespace {

constexpr char kTooFine[] =
    "dense_crf: theta_alpha, theta_beta and theta_gamma must be larger for an image of this size "
    "and these values: their lattice has more than 2**62 points";

// A vertex as one number: its remainder r = key % (d + 1), and a_0 .. a_{d-1} by strides. The last
// a follows from the sum 0. Steps to neighbors stay within the ranges of a, which have a margin.
template <int d>
struct Keys {
  std::array<int64_t, d + 1> stride;  // 0 for the last
  std::array<int64_t, d> lowest;
  int64_t all;  // sum of the strides

  void set_ranges(const std::array<int64_t, d>& low, const std::array<int64_t, d>& high) {
    int64_t count = d + 1;
    all = 0;
    for (int i = 0; i < d; ++i) {
      lowest[i] = low[i] - 2;
      stride[i] = count;
      all += stride[i];
      const int64_t extent = high[i] - low[i] + 4;
      TORCH_CHECK(static_cast<double>(count) * static_cast<double>(extent) < 0x1p62, kTooFine);
      count *= extent;
    }
    stride[d] = 0;
  }

  // Of the d + 1 vertices, by their remainder.
  void of(const Simplex<d>& simplex, int64_t* keys) const {
    std::array<int64_t, d + 1> step;
    keys[0] = 0;
    for (int i = 0; i < d; ++i) {
      keys[0] += (simplex.cell[i] - lowest[i]) * stride[i];
    }
    for (int i = 0; i <= d; ++i) {
      step[simplex.rank[i]] = 1 - stride[i];
    }
    for (int r = 0; r < d; ++r) {
      keys[r + 1] = keys[r] + step[d - r];
    }
  }

  // One up in every coordinate but `direction`, and d down in that.
  int64_t forwards(int64_t key, int direction) const {
    const int64_t up = key % (d + 1) == d ? all - d : 1;
    return key + up - stride[direction];
  }
};

// Keys to rows, by linear probing; grows with what is in it.
class RowTable {
 public:
  RowTable() : slots_(size_t(1) << 12) {}

  // The row of a key; a new one if it has none.
  int32_t add(int64_t key) {
    Slot& slot = slots_[place(key)];
    if (slot.row != 0) {
      return slot.row;
    }
    keys_.push_back(key);
    const int32_t row = static_cast<int32_t>(keys_.size()) - 1;
    slot = {key, row};
    if (2 * keys_.size() > slots_.size()) {
      grow();
    }
    return row;
  }

  // 0 if it has none.
  int32_t find(int64_t key) const { return slots_[place(key)].row; }

  // By row; that of row 0 means nothing.
  const std::vector<int64_t>& keys() const { return keys_; }

 private:
  struct Slot {
    int64_t key = 0;
    int32_t row = 0;  // 0: free
  };

  size_t place(int64_t key) const {
    const uint64_t mixed = static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15ull;
    size_t slot = (mixed ^ (mixed >> 32)) & (slots_.size() - 1);
    while (slots_[slot].row != 0 && slots_[slot].key != key) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slot;
  }

  void grow() {
    slots_.assign(2 * slots_.size(), Slot());
    for (size_t row = 1; row < keys_.size(); ++row) {
      slots_[place(keys_[row])] = {keys_[row], static_cast<int32_t>(row)};
    }
  }

  std::vector<int64_t> keys_{0};
  std::vector<Slot> slots_;
};

// The ranges of the cells that points in a box have.
template <int d>
Keys<d> find_ranges(const float* points, int64_t num_pixels) {
  std::array<float, d> lowest, highest;
  std::copy_n(points, d, lowest.begin());
  highest = lowest;
  for (int64_t pixel = 1; pixel < num_pixels; ++pixel) {
    for (int i = 0; i < d; ++i) {
      lowest[i] = std::min(lowest[i], points[pixel * d + i]);
      highest[i] = std::max(highest[i], points[pixel * d + i]);
    }
  }
  std::array<double, d> low{}, high{};
  for (int feature = 0; feature < d; ++feature) {
    // Elevation is linear: the sum of its parts' least values is the least of the sums.
    std::array<float, d> end{};
    end[feature] = lowest[feature];
    const std::array<double, d + 1> first = elevate<d>(end.data());
    end[feature] = highest[feature];
    const std::array<double, d + 1> last = elevate<d>(end.data());
    for (int i = 0; i < d; ++i) {
      low[i] += std::min(first[i], last[i]) / (d + 1);
      high[i] += std::max(first[i], last[i]) / (d + 1);
    }
  }
  std::array<int64_t, d> low_cell, high_cell;
  for (int i = 0; i < d; ++i) {
    TORCH_CHECK(low[i] > -0x1p60 && high[i] < 0x1p60, kTooFine);
    // A cell is rounded, then moved by 1 at most.
    low_cell[i] = round_to_integer(low[i]) - 2;
    high_cell[i] = round_to_integer(high[i]) + 2;
  }
  Keys<d> keys;
  keys.set_ranges(low_cell, high_cell);
  return keys;
}

// Shares and local rows of a band's pixels; the keys of these rows.
template <int d>
std::vector<int64_t> build_band(const float* points, const Keys<d>& keys, int64_t begin,
                                int64_t end, Lattice& lattice) {
  RowTable table;
  std::array<int64_t, d + 1> own, previous;
  previous.fill(-1);
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const Simplex<d> simplex = find_simplex<d>(points + pixel * d);
    keys.of(simplex, own.data());
    int32_t* vertices = lattice.vertices.data() + pixel * (d + 1);
    for (int r = 0; r <= d; ++r) {
      // Neighboring pixels often share vertices, of the same remainder.
      vertices[r] = own[r] == previous[r] ? vertices[r - d - 1] : table.add(own[r]) - 1;
    }
    previous = own;
    std::copy(simplex.share.begin(), simplex.share.end(), lattice.shares.begin() + pixel * (d + 1));
  }
  return {table.keys().begin() + 1, table.keys().end()};
}

// Gives the keys of every band their global rows, in the order of bands.
void join_bands(const std::vector<std::vector<int64_t>>& band_keys, RowTable& table,
                Lattice& lattice) {
  lattice.band_starts.assign(1, 0);
  for (const std::vector<int64_t>& keys : band_keys) {
    for (const int64_t key : keys) {
      lattice.local_to_row.push_back(table.add(key));
    }
    lattice.band_starts.push_back(static_cast<int64_t>(lattice.local_to_row.size()));
  }
  lattice.num_rows = static_cast<int64_t>(table.keys().size());
  lattice.num_locals = lattice.band_starts.back();
  lattice.row_starts.assign(lattice.num_rows + 1, 0);
  for (const int32_t row : lattice.local_to_row) {
    ++lattice.row_starts[row + 1];
  }
  for (int64_t row = 0; row < lattice.num_rows; ++row) {
    lattice.row_starts[row + 1] += lattice.row_starts[row];
  }
  std::vector<int32_t> next(lattice.row_starts.begin(), lattice.row_starts.end() - 1);
  lattice.row_to_local.resize(lattice.num_locals);
  for (int64_t local = 0; local < lattice.num_locals; ++local) {
    lattice.row_to_local[next[lattice.local_to_row[local]]++] = static_cast<int32_t>(local);
  }
}

template <int d>
void find_neighbors(const Keys<d>& keys, const RowTable& table, Lattice& lattice) {
  const int64_t num_rows = lattice.num_rows;
  lattice.neighbors.assign((d + 1) * num_rows * 2, 0);
  at::parallel_for(1, num_rows, 1 << 10, [&](int64_t begin, int64_t end) {
    for (int direction = 0; direction <= d; ++direction) {
      int32_t* pairs = lattice.neighbors.data() + direction * num_rows * 2;
      for (int64_t row = begin; row < end; ++row) {
        const int32_t next = table.find(keys.forwards(table.keys()[row], direction));
        if (next != 0) {
          // Whoever comes next has this one behind, and no other.
          pairs[2 * row] = next;
          pairs[2 * next + 1] = static_cast<int32_t>(row);
        }
      }
    }
  });
}

template <int d>
Lattice build(const float* points, int64_t num_pixels) {
  Lattice lattice;
  lattice.num_pixels = num_pixels;
  lattice.corners = d + 1;
  lattice.vertices.resize(num_pixels * (d + 1));
  lattice.shares.resize(num_pixels * (d + 1));
  const Keys<d> keys = find_ranges<d>(points, num_pixels);
  std::vector<std::vector<int64_t>> band_keys(num_bands(num_pixels));
  const int64_t bands = static_cast<int64_t>(band_keys.size());
  at::parallel_for(0, bands, 1, [&](int64_t first, int64_t last) {
    for (int64_t band = first; band < last; ++band) {
      const int64_t begin = band * kBandPixels, end = std::min(begin + kBandPixels, num_pixels);
      band_keys[band] = build_band<d>(points, keys, begin, end, lattice);
    }
  });
  RowTable table;
  join_bands(band_keys, table, lattice);
  find_neighbors<d>(keys, table, lattice);
  return lattice;
}

}  // namespace

Lattice build_lattice(const float* points, int64_t num_pixels, int64_t num_features) {
  TORCH_INTERNAL_ASSERT(num_features == 2 || num_features == 5);
  return num_features == 2 ? build<2>(points, num_pixels) : build<5>(points, num_pixels);
}

}  // namespace deeplab2_d2
