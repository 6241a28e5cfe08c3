#include "axial_attention_loops.h"

#include <algorithm>

#include "axial_attention_sums.h"

namespace deeplab2_d2 {
namespace {

// body(first, number of them) of all from first to end: kRowsAtOnce while so many are left, then 1.
template <typename Body>
void for_rows(int64_t first, int64_t end, const Body& body) {
  for (; first + kRowsAtOnce <= end; first += kRowsAtOnce) {
    body(first, kRowsAtOnce);
  }
  for (; first < end; ++first) {
    body(first, 1);
  }
}

// Of a block of keys or channels that stays in the cache.
constexpr int64_t kCachedValues = 2048;

// What bilinear_rows makes of queries [first, end), whose rows of the map begin at out.
//
// a, b: (L, columns); table, other: (depth, relative_positions).
template <typename T>
void bilinear_strip(const AttentionSize& size, int64_t first, int64_t end, int64_t depth, T bias,
                    const T* a, const T* b, int64_t columns, const T* x, const T* table,
                    const T* other, T* out) {
  const int64_t least = 2 * kVectorLanes;
  const int64_t block = std::max(least, (kCachedValues / depth - kStrip) / least * least);
  for (int64_t key = 0; key < size.length; key += block) {
    for (int64_t l = first; l < end; l += 2) {
      // Two at a time share the loads of x; of more the sums would not stay in registers.
      const int together = l + 1 < end ? 2 : 1;
      const int64_t from = std::max(key, size.first_visible(l));
      const int64_t to = std::min(key + block, size.end_visible(l + together - 1));
      const int64_t shift = size.length - 1 - l;
      if (from < to) {
        bilinear_rows(together, from, to, depth, bias, a + l * columns, b + l * columns, columns, x,
                      size.positions(), table == nullptr ? nullptr : table + shift, other + shift,
                      size.relative_positions(), out + (l - first) * size.map_stride(),
                      size.map_stride());
      }
    }
  }
}

// Attention weights of queries [first, end), (end - first, map_stride).
template <typename T>
void weigh(const AttentionSize& size, const AttentionTables<T>& tables,
           const AttentionSequence<T>& sequence, int64_t first, int64_t end, T* weights) {
  bilinear_strip(size, first, end, size.key_depth, tables.logit_shift, sequence.scaled_query,
                 sequence.query, size.key_columns(), sequence.key_rows, tables.key_rows,
                 tables.query_rows, weights);
  for (int64_t l = first; l < end; ++l) {
    softmax_row(size.first_visible(l), size.end_visible(l), size.positions(),
                weights + (l - first) * size.map_stride());
  }
}

// Sums over keys, of queries l, l + 1, ...: weights is the row of l. Of `width` of the columns of
// (L, columns), and of (R, columns) by relative positions; out has as many columns.
template <typename T>
void sum_keys(const AttentionSize& size, int64_t l, int count, const T* weights, const T* x,
              int64_t width, int64_t columns, T* out) {
  const int64_t first = size.first_visible(l);
  weighted_sums(count, weights + first, size.map_stride(), 1, x + first * columns, columns,
                size.end_visible(l + count - 1) - first, width, out, columns);
}

template <typename T>
void sum_relative_keys(const AttentionSize& size, int64_t l, int count, const T* weights,
                       const T* table, int64_t width, int64_t columns, T* out) {
  // A relative position's key is the next one for the next query.
  const int64_t first = size.first_visible(l) - (count - 1);
  weighted_sums(count, weights + first, size.map_stride() + 1, 1,
                table + (first - l + size.length - 1) * columns, columns,
                size.end_visible(l + count - 1) - first, width, out, columns);
}

template <typename T>
void attend_sequence(const AttentionSize& size, const AttentionTables<T>& tables,
                     const AttentionSequence<T>& sequence, T* weights, T* content, T* encoding) {
  const int64_t columns = size.value_columns(), least = 2 * kVectorLanes;
  const int64_t block = std::max(least, kCachedValues / size.length / least * least);
  T* rows = weights + kVectorLanes;
  for (int64_t first = 0; first < size.length; first += kStrip) {
    const int64_t end = std::min(first + kStrip, size.length);
    weigh(size, tables, sequence, first, end, rows);
    for (int64_t c = 0; c < columns; c += block) {
      const int64_t width = std::min(block, columns - c);
      for_rows(first, end, [&](int64_t l, int count) {
        const T* row = rows + (l - first) * size.map_stride();
        if (size.retrieve_content) {
          sum_keys(size, l, count, row, sequence.value_columns + c, width, columns,
                   content + l * columns + c);
        }
        if (size.retrieve_encoding) {
          sum_relative_keys(size, l, count, row, tables.value_columns + c, width, columns,
                            encoding + l * columns + c);
        }
      });
    }
  }
}

template <typename T>
void add_scaled_row(const T* from, T factor, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] += factor * from[i];
  }
}

// logits[l][m]: gradient of the weights, and then of the logits.
template <typename T>
void logit_gradients(const AttentionSize& size, const AttentionTables<T>& tables,
                     const AttentionSequence<T>& sequence, const T* content, const T* encoding,
                     const T* weights, T* logits, T* sum) {
  const int64_t stride = size.map_stride(), columns = size.value_columns();
  for (int64_t first = 0; first < size.length; first += kStrip) {
    bilinear_strip(size, first, std::min(first + kStrip, size.length), size.value_depth, T(0),
                   content, encoding, columns, sequence.value_rows, static_cast<const T*>(nullptr),
                   tables.value_rows, logits + first * stride);
  }
  for (int64_t l = 0; l < size.length; ++l) {
    *sum += softmax_gradient(size.first_visible(l), size.end_visible(l), size.positions(),
                             weights + l * stride, logits + l * stride);
  }
}

template <typename T>
T dot(const T* a, const T* b, int64_t count) {
  T sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

template <typename T>
void query_gradients(const AttentionSize& size, const AttentionTables<T>& tables,
                     const AttentionSequence<T>& sequence, const T* logits, T* scratch,
                     const AttentionGradients<T>& gradients) {
  const int64_t columns = size.key_columns();
  std::fill(gradients.query, gradients.query + size.length * columns, T(0));
  for_rows(0, size.length, [&](int64_t l, int count) {
    const T* rows = logits + l * size.map_stride();
    const T* query = sequence.query + l * columns;
    T* gradient = gradients.query + l * columns;
    sum_keys(size, l, count, rows, sequence.key_columns, columns, columns, scratch);
    gradients.scales[0] += dot(query, scratch, count * columns);
    add_scaled_row(scratch, tables.content_scale, count * columns, gradient);
    sum_relative_keys(size, l, count, rows, tables.query_columns, columns, columns, scratch);
    gradients.scales[1] += dot(query, scratch, count * columns);
    add_scaled_row(scratch, tables.query_scale, count * columns, gradient);
  });
}

template <typename T>
void key_gradients(const AttentionSize& size, const AttentionTables<T>& tables,
                   const AttentionSequence<T>& sequence, const T* content, const T* weights,
                   const T* logits, T* scratch, const AttentionGradients<T>& gradients) {
  const int64_t stride = size.map_stride(), columns = size.key_columns();
  const int64_t value_columns = size.value_columns();
  std::fill(gradients.key, gradients.key + size.length * columns, T(0));
  for_rows(0, size.length, [&](int64_t m, int count) {
    // Queries that see one of the keys; the map is 0 where one does not.
    const int64_t first = size.first_visible(m), end = size.end_visible(m + count - 1);
    const int64_t start = first * stride + m;
    T* gradient = gradients.key + m * columns;
    weighted_sums(count, logits + start, 1, stride, sequence.query + first * columns, columns,
                  end - first, columns, scratch, columns);
    add_scaled_row(scratch, tables.content_scale, count * columns, gradient);
    // By relative positions: the next one is that of the query before.
    weighted_sums(count, logits + (end - 1) * stride + m, stride + 1, -stride,
                  tables.key_columns + (m - end + size.length) * columns, columns,
                  end - first + count - 1, columns, scratch, columns);
    gradients.scales[2] += dot(sequence.key_columns + m * columns, scratch, count * columns);
    add_scaled_row(scratch, tables.key_scale, count * columns, gradient);
    weighted_sums(count, weights + start, 1, stride, content + first * value_columns, value_columns,
                  end - first, value_columns, gradients.value + m * value_columns, value_columns);
  });
}

template <typename T>
void table_gradients(const AttentionSize& size, const AttentionTables<T>& tables,
                     const AttentionSequence<T>& sequence, const T* encoding, const T* weights,
                     const T* logits, T* scratch, const AttentionGradients<T>& gradients) {
  const int64_t stride = size.map_stride(), columns = size.key_columns();
  const int64_t value_columns = size.value_columns(), center = size.length - 1;
  const int64_t reach = std::min(size.reach, center);
  const auto add = [&](int64_t place, int count) {
    // Pairs that are `offset` apart, offset + 1, ...: by their queries, and by their keys.
    const int64_t offset = place - center, last = offset + count - 1;
    int64_t first = std::max<int64_t>(0, -last), end = size.length - std::max<int64_t>(0, offset);
    const int64_t start = first * stride + first + offset;
    weighted_sums(count, logits + start, 1, stride + 1, sequence.query + first * columns, columns,
                  end - first, columns, scratch, columns);
    add_scaled_row(scratch, tables.query_scale, count * columns,
                   gradients.query_columns + place * columns);
    weighted_sums(count, weights + start, 1, stride + 1, encoding + first * value_columns,
                  value_columns, end - first, value_columns, scratch, value_columns);
    add_scaled_row(scratch, T(1), count * value_columns,
                   gradients.value_columns + place * value_columns);
    first = std::max<int64_t>(0, offset);
    end = size.length - std::max<int64_t>(0, -last);
    weighted_sums(count, logits + (first - offset) * stride + first, -stride, stride + 1,
                  sequence.key_columns + first * columns, columns, end - first, columns, scratch,
                  columns);
    add_scaled_row(scratch, tables.key_scale, count * columns,
                   gradients.key_columns + place * columns);
  };
  for_rows(center - reach, center + reach + 1, add);
}

template <typename T>
void differentiate_sequence(const AttentionSize& size, const AttentionTables<T>& tables,
                            const AttentionSequence<T>& sequence, const T* content,
                            const T* encoding, T* weights, T* logits, T* scratch,
                            const AttentionGradients<T>& gradients) {
  weights += size.map_origin();
  logits += size.map_origin();
  for (int64_t first = 0; first < size.length; first += kStrip) {
    weigh(size, tables, sequence, first, std::min(first + kStrip, size.length),
          weights + first * size.map_stride());
  }
  logit_gradients(size, tables, sequence, content, encoding, weights, logits, gradients.scales + 3);
  query_gradients(size, tables, sequence, logits, scratch, gradients);
  key_gradients(size, tables, sequence, content, weights, logits, scratch, gradients);
  table_gradients(size, tables, sequence, encoding, weights, logits, scratch, gradients);
}

}  // namespace

void attend(const AttentionSize& size, const AttentionTables<float>& tables,
            const AttentionSequence<float>& sequence, float* weights, float* content,
            float* encoding) {
  attend_sequence(size, tables, sequence, weights, content, encoding);
}

void attend(const AttentionSize& size, const AttentionTables<double>& tables,
            const AttentionSequence<double>& sequence, double* weights, double* content,
            double* encoding) {
  attend_sequence(size, tables, sequence, weights, content, encoding);
}

void attend_backward(const AttentionSize& size, const AttentionTables<float>& tables,
                     const AttentionSequence<float>& sequence, const float* content,
                     const float* encoding, float* weights, float* logits, float* scratch,
                     const AttentionGradients<float>& gradients) {
  differentiate_sequence(size, tables, sequence, content, encoding, weights, logits, scratch,
                         gradients);
}

void attend_backward(const AttentionSize& size, const AttentionTables<double>& tables,
                     const AttentionSequence<double>& sequence, const double* content,
                     const double* encoding, double* weights, double* logits, double* scratch,
                     const AttentionGradients<double>& gradients) {
  differentiate_sequence(size, tables, sequence, content, encoding, weights, logits, scratch,
                         gradients);
}

}  // namespace deeplab2_d2
