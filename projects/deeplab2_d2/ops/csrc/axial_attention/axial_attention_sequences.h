// What the kernels make of the inputs: tables of a head, and its sequences one by one.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "axial_attention.h"
#include "axial_attention_loops.h"

namespace deeplab2_d2 {

// Parts into which the sequences of a head are divided for threads; sums over sequences are made
// part by part, so that they do not hang on how many threads there are.
constexpr int64_t kSequenceParts = 8;

inline AttentionSize size_of(const AttentionInputs& inputs) {
  AttentionSize size{};
  size.length = inputs.raw.size(3);
  size.key_depth = inputs.key_depth() / inputs.num_heads();
  size.value_depth = inputs.value_depth / inputs.num_heads();
  size.reach = std::min(inputs.reach, size.length);
  size.retrieve_content = inputs.retrieve_content;
  size.retrieve_encoding = inputs.retrieve_encoding();
  return size;
}

// (R, channels) to (channels, relative_positions) times a factor; zeros without a table.
template <typename T>
std::vector<T> table_rows(const AttentionSize& size, const std::optional<at::Tensor>& table,
                          int64_t channels, T factor) {
  std::vector<T> rows(channels * size.relative_positions());
  for (int64_t place = 0; table.has_value() && place < size.num_relative(); ++place) {
    const T* values = table->const_data_ptr<T>() + place * channels;
    for (int64_t c = 0; c < channels; ++c) {
      rows[c * size.relative_positions() + place] = values[c] * factor;
    }
  }
  return rows;
}

// (R, channels) to whole vectors of channels; zeros without a table.
template <typename T>
std::vector<T> table_columns(const AttentionSize& size, const std::optional<at::Tensor>& table,
                             int64_t channels) {
  const int64_t columns = padded(channels);
  std::vector<T> result(size.num_relative() * columns);
  for (int64_t place = 0; table.has_value() && place < size.num_relative(); ++place) {
    const T* values = table->const_data_ptr<T>() + place * channels;
    std::copy(values, values + channels, &result[place * columns]);
  }
  return result;
}

// The tables of one head.
template <typename T>
struct HeadTables {
  HeadTables(const AttentionSize& size, const AttentionInputs& inputs, int64_t head,
             bool with_backward) {
    const int64_t heads = inputs.num_heads();
    const T* scales = inputs.logit_scale.const_data_ptr<T>() + head;
    const T key_scale = scales[2 * heads];
    query_rows = table_rows<T>(size, inputs.query, size.key_depth, scales[heads]);
    key_rows = table_rows<T>(size, inputs.key, size.key_depth, key_scale);
    value_columns = table_columns<T>(size, inputs.value, size.value_depth);
    if (with_backward) {
      query_columns = table_columns<T>(size, inputs.query, size.key_depth);
      key_columns = table_columns<T>(size, inputs.key, size.key_depth);
      value_rows = table_rows<T>(size, inputs.value, size.value_depth, T(1));
    }
    view = {scales[0],
            scales[heads],
            key_scale,
            inputs.logit_shift.const_data_ptr<T>()[head],
            query_rows.data(),
            key_rows.data(),
            value_columns.data(),
            query_columns.data(),
            key_columns.data(),
            value_rows.data()};
  }
  HeadTables(const HeadTables&) = delete;

  std::vector<T> query_rows, key_rows, value_columns, query_columns, key_columns, value_rows;
  AttentionTables<T> view;
};

// Channels of a head in raw, and where one of its sequences lies.
struct Place {
  int64_t query, key, value;  // first channels
  int64_t offset;             // of channel 0 of the sequence
  int64_t stride;             // of channels
};

inline Place place_of(const AttentionSize& size, const AttentionInputs& inputs, int64_t head,
                      int64_t sequence) {
  const int64_t others = inputs.raw.size(2), stride = others * size.length;
  const int64_t image = sequence / others, other = sequence % others;
  return {head * size.key_depth, inputs.key_depth() + head * size.key_depth,
          2 * inputs.key_depth() + head * size.value_depth,
          image * inputs.raw.size(1) * stride + other * size.length, stride};
}

// (count, positions) to (L, padded count); a few channels at a time, whose columns are neighbours.
template <typename T>
void to_columns(const AttentionSize& size, int64_t count, const T* rows, T* columns) {
  for (int64_t first = 0; first < count; first += kVectorLanes) {
    const int64_t together = std::min(kVectorLanes, count - first);
    for (int64_t l = 0; l < size.length; ++l) {
      for (int64_t d = first; d < first + together; ++d) {
        columns[l * padded(count) + d] = rows[d * size.positions() + l];
      }
    }
  }
}

// The other way round.
template <typename T>
void to_rows(const AttentionSize& size, int64_t count, const T* columns, T* rows) {
  for (int64_t first = 0; first < count; first += kVectorLanes) {
    const int64_t together = std::min(kVectorLanes, count - first);
    for (int64_t l = 0; l < size.length; ++l) {
      for (int64_t d = first; d < first + together; ++d) {
        rows[d * size.positions() + l] = columns[l * padded(count) + d];
      }
    }
  }
}

// Normalised queries, keys and values of one sequence and head.
template <typename scalar_t, typename T>
class Sequence {
 public:
  Sequence(const AttentionSize& size, const AttentionInputs& inputs)
      : size_(size),
        raw_(inputs.raw.const_data_ptr<scalar_t>()),
        scale_(inputs.scale.const_data_ptr<T>()),
        shift_(inputs.shift.const_data_ptr<T>()),
        query_rows_(size.key_depth * size.positions()),
        query_(size.length * size.key_columns()),
        key_columns_(size.length * size.key_columns()),
        key_rows_(size.key_depth * size.positions()),
        scaled_query_(query_.size()),
        value_columns_(size.length * size.value_columns()),
        value_rows_(size.value_depth * size.positions()) {}

  void read(const Place& place, T content_scale) {
    read_channels(place, place.query, size_.key_depth, query_rows_.data(), query_.data());
    read_channels(place, place.key, size_.key_depth, key_rows_.data(), key_columns_.data());
    read_channels(place, place.value, size_.value_depth, value_rows_.data(), value_columns_.data());
    for (size_t i = 0; i < query_.size(); ++i) {
      scaled_query_[i] = query_[i] * content_scale;
    }
  }

  AttentionSequence<T> view() const {
    return {query_.data(),         scaled_query_.data(), key_rows_.data(),
            value_columns_.data(), key_columns_.data(),  value_rows_.data()};
  }

 private:
  void read_channels(const Place& place, int64_t first, int64_t count, T* rows, T* columns) {
    for (int64_t d = 0; d < count; ++d) {
      const scalar_t* values = raw_ + place.offset + (first + d) * place.stride;
      const T scale = scale_[first + d], shift = shift_[first + d];
      T* row = rows + d * size_.positions();
      for (int64_t l = 0; l < size_.length; ++l) {
        row[l] = static_cast<T>(values[l]) * scale + shift;
      }
    }
    to_columns(size_, count, rows, columns);
  }

  const AttentionSize size_;
  const scalar_t* raw_;
  const T *scale_, *shift_;
  std::vector<T> query_rows_, query_, key_columns_, key_rows_, scaled_query_, value_columns_,
      value_rows_;
};

// work(head, first sequence, end, index of the part) of every part of every head.
template <typename Work>
void for_each_part(const AttentionInputs& inputs, const Work& work) {
  const int64_t sequences = inputs.raw.size(0) * inputs.raw.size(2);
  const int64_t parts = std::min(sequences, kSequenceParts);
  at::parallel_for(0, inputs.num_heads() * parts, 1, [&](int64_t first, int64_t end) {
    for (int64_t index = first; index < end; ++index) {
      const int64_t part = index % parts;
      work(index / parts, sequences * part / parts, sequences * (part + 1) / parts, index);
    }
  });
}

// Where the channels of one retrieved kind, sequence and head begin in (N, T * V, S, L).
inline int64_t retrieved_offset(const AttentionInputs& inputs, int64_t kind, int64_t head,
                                int64_t sequence) {
  const int64_t others = inputs.raw.size(2), length = inputs.raw.size(3);
  const int64_t image = sequence / others, other = sequence % others;
  const int64_t depth = inputs.value_depth / inputs.num_heads();
  const int64_t channel =
      (image * inputs.num_retrieved() + kind) * inputs.value_depth + head * depth;
  return (channel * others + other) * length;
}

}  // namespace deeplab2_d2
