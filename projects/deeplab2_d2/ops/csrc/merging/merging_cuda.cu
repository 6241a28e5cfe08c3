// Work division: a thread counts a few successive pixels of a row, a run of equal pixels at a time,
// a block adds the counts of its threads up in shared memory and then to those of the image, with
// integer atomics (their order does not reach the sums); one block an image decides classes,
// numbers and labels; one thread a pixel looks its label up.
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "block_tally.cuh"
#include "merging_device.cuh"
#include "segments.h"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 512;
constexpr int32_t kPixelsPerThread = 16;

// Integer counts of the segments of all images.
struct Counts {
  int32_t* votes;        // (N, K + 1, C); the last row is stuff
  int32_t* first_pixel;  // (N, K)
  int32_t* box;          // (N, K + C, 4): minima, then maxima (inclusive)
};

// Pixels of one class and one center: how many, the first and the last in raster order, and
// columns.
struct Pixels {
  int32_t number, first, last, min_x, max_x;
};

// What a block has counted; `keys`: entry of an image's votes.
struct BlockTally {
  TallyKeys keys;
  Pixels pixels[kTallyPlaces];
};

__device__ __forceinline__ void include(Pixels& sum, const Pixels& run) {
  atomicAdd(&sum.number, run.number);
  atomicMin(&sum.first, run.first);
  atomicMax(&sum.last, run.last);
  atomicMin(&sum.min_x, run.min_x);
  atomicMax(&sum.max_x, run.max_x);
}

// Adds pixels to the counts of an image.
__device__ __forceinline__ void add_to_image(const Counts& counts, int64_t image, int64_t entry,
                                             const Pixels& pixels, int32_t width,
                                             int32_t num_classes, int32_t num_centers) {
  atomicAdd(&counts.votes[image * (num_centers + 1) * num_classes + entry], pixels.number);
  const int64_t vote_row = entry / num_classes;
  if (vote_row < num_centers) {
    lower_to(&counts.first_pixel[image * num_centers + vote_row], pixels.first);
  }
  const int64_t row = vote_row + (vote_row < num_centers ? 0 : entry % num_classes);
  int32_t* box = counts.box + (image * (num_centers + num_classes) + row) * 4;
  lower_to(&box[0], pixels.first / width);
  lower_to(&box[1], pixels.min_x);
  raise_to(&box[2], pixels.last / width);
  raise_to(&box[3], pixels.max_x);
}

__global__ void count_kernel(const int32_t* semantic, const int32_t* instance, int32_t height,
                             int32_t width, int32_t num_classes, int32_t num_centers,
                             const __grid_constant__ ThingFlags flags, Counts counts) {
  __shared__ BlockTally tally;
  constexpr int32_t kNone = std::numeric_limits<int32_t>::max();
  const int32_t place = static_cast<int32_t>(threadIdx.x);
  if (place < kTallyPlaces) {
    tally.keys.clear(place);
    tally.pixels[place] = {0, kNone, -1, kNone, -1};
  }
  __syncthreads();
  const int32_t parts = (width + kPixelsPerThread - 1) / kPixelsPerThread;
  const int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t image = blockIdx.y;
  const bool exists = index < static_cast<int64_t>(height) * parts;
  const int32_t y = static_cast<int32_t>(index / parts);
  const int32_t begin = static_cast<int32_t>(index % parts) * kPixelsPerThread;
  const int32_t end = exists ? min(begin + kPixelsPerThread, width) : begin;
  const int64_t offset = (image * height + y) * width;
  for (int32_t first = begin; first < end;) {
    const int32_t class_id = semantic[offset + first], center = instance[offset + first];
    int32_t last = first + 1;
    while (last < end && semantic[offset + last] == class_id && instance[offset + last] == center) {
      ++last;
    }
    const int32_t row = segment_row(flags, class_id, center, num_classes, num_centers);
    if (row >= 0) {
      const int64_t entry = static_cast<int64_t>(min(row, num_centers)) * num_classes + class_id;
      const Pixels run{last - first, y * width + first, y * width + last - 1, first, last - 1};
      const int32_t found = tally.keys.find(entry);
      if (found >= 0) {
        include(tally.pixels[found], run);
      } else {
        add_to_image(counts, image, entry, run, width, num_classes, num_centers);
      }
    }
    first = last;
  }
  __syncthreads();
  if (place < kTallyPlaces && tally.keys.keys[place] != kNoKey) {
    add_to_image(counts, image, static_cast<int64_t>(tally.keys.keys[place]), tally.pixels[place],
                 width, num_classes, num_centers);
  }
}

// Columns of the segment table, (N, K + C).
struct Columns {
  int32_t *label, *category, *area, *box;
  float* objectness;
};

// Writes a row but its category, which other threads may still read.
__device__ void write_row(const Columns& columns, const int32_t* counted_box, int64_t row,
                          int32_t area, int64_t label, float score) {
  const bool is_absent = area == 0;
  columns.label[row] = is_absent ? kVoid : static_cast<int32_t>(label);
  columns.area[row] = area;
  columns.objectness[row] = is_absent ? 0.0f : score;
  for (int i = 0; i < 4; ++i) {
    columns.box[4 * row + i] = is_absent ? 0 : counted_box[4 * row + i] + (i >= 2);
  }
}

__global__ void rows_kernel(Counts counts, const __grid_constant__ ThingFlags flags,
                            const float* center_scores, int32_t num_classes, int32_t num_centers,
                            int64_t label_divisor, int64_t stuff_area_limit, Columns columns) {
  const int64_t image = blockIdx.x;
  const int64_t first_row = image * (num_centers + num_classes);
  const int32_t* first_pixel = counts.first_pixel + image * num_centers;
  const int32_t* votes = counts.votes + image * (num_centers + 1) * num_classes;
  for (int32_t k = threadIdx.x; k < num_centers; k += blockDim.x) {
    int32_t majority = 0, area = 0;
    for (int32_t c = 0; c < num_classes; ++c) {
      const int32_t count = votes[static_cast<int64_t>(k) * num_classes + c];
      area += count;
      majority = count > votes[static_cast<int64_t>(k) * num_classes + majority] ? c : majority;
    }
    columns.category[first_row + k] = area > 0 ? majority : kVoid;
    columns.area[first_row + k] = area;
  }
  __syncthreads();
  for (int32_t k = threadIdx.x; k < num_centers; k += blockDim.x) {
    const int32_t category = columns.category[first_row + k];
    int64_t number = 1;
    for (int32_t j = 0; j < num_centers; ++j) {
      number += columns.category[first_row + j] == category && first_pixel[j] < first_pixel[k];
    }
    write_row(columns, counts.box, first_row + k, columns.area[first_row + k],
              category * label_divisor + number, center_scores[image * num_centers + k]);
  }
  for (int32_t c = threadIdx.x; c < num_classes; c += blockDim.x) {
    int32_t area = votes[static_cast<int64_t>(num_centers) * num_classes + c];
    area = is_thing(flags, c) || area < stuff_area_limit ? 0 : area;
    const int64_t row = first_row + num_centers + c;
    columns.category[row] = area == 0 ? kVoid : c;
    write_row(columns, counts.box, row, area, c * label_divisor, 1.0f);
  }
}

__global__ void label_kernel(const int32_t* semantic, const int32_t* instance, int64_t area,
                             int32_t num_classes, int32_t num_centers,
                             const __grid_constant__ ThingFlags flags, const int32_t* labels,
                             int32_t* panoptic) {
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= area) {
    return;
  }
  const int64_t image = blockIdx.y, index = image * area + pixel;
  const int32_t row =
      segment_row(flags, semantic[index], instance[index], num_classes, num_centers);
  panoptic[index] = row < 0 ? kVoid : labels[image * (num_centers + num_classes) + row];
}

void check_limits(int64_t num_images, int64_t height, int64_t width, int64_t num_centers) {
  TORCH_CHECK(num_images < 65536 && height * width < (int64_t(1) << 31),
              "merge_panoptic: at most 65535 images of 2**31 - 1 pixels, got ", num_images, " of ",
              height, " x ", width);
  TORCH_CHECK(num_centers < (int64_t(1) << 30),
              "merge_panoptic: on a GPU fewer than 2**30 centers, got ", num_centers);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> merge_on_device(
    const at::Tensor& semantic, const at::Tensor& instance, const at::Tensor& center_scores,
    int64_t num_classes, const ThingFlags& flags, int64_t label_divisor, int64_t stuff_area_limit) {
  const int64_t num_images = semantic.size(0), height = semantic.size(1), width = semantic.size(2);
  const int64_t num_centers = center_scores.size(1), num_segments = num_centers + num_classes;
  check_limits(num_images, height, width, num_centers);
  constexpr int32_t kNone = std::numeric_limits<int32_t>::max();
  const auto integers = semantic.options();
  at::Tensor panoptic = at::empty(semantic.sizes(), integers);
  at::Tensor label = at::empty({num_images, num_segments}, integers);
  at::Tensor category = at::empty_like(label);
  at::Tensor area = at::empty_like(label);
  at::Tensor box = at::empty({num_images, num_segments, 4}, integers);
  at::Tensor objectness = at::empty({num_images, num_segments}, center_scores.options());
  at::Tensor votes = at::zeros({num_images, num_centers + 1, num_classes}, integers);
  at::Tensor first_pixel = at::full({num_images, num_centers}, kNone, integers);
  at::Tensor counted_box = at::full({num_images, num_segments, 4}, kNone, integers);
  counted_box.slice(2, 2, 4).fill_(-1);
  if (num_images == 0) {
    return {panoptic, label, category, area, box, objectness};
  }
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const Counts counts{votes.mutable_data_ptr<int32_t>(), first_pixel.mutable_data_ptr<int32_t>(),
                      counted_box.mutable_data_ptr<int32_t>()};
  const int64_t parts = height * ((width + kPixelsPerThread - 1) / kPixelsPerThread);
  if (height * width > 0) {
    count_kernel<<<dim3((parts + kThreads - 1) / kThreads, num_images), kThreads, 0, stream>>>(
        semantic.const_data_ptr<int32_t>(), instance.const_data_ptr<int32_t>(), height, width,
        num_classes, num_centers, flags, counts);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  const Columns columns{label.mutable_data_ptr<int32_t>(), category.mutable_data_ptr<int32_t>(),
                        area.mutable_data_ptr<int32_t>(), box.mutable_data_ptr<int32_t>(),
                        objectness.mutable_data_ptr<float>()};
  rows_kernel<<<num_images, kRowThreads, 0, stream>>>(
      counts, flags, center_scores.const_data_ptr<float>(), num_classes, num_centers, label_divisor,
      stuff_area_limit, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  if (height * width > 0) {
    label_kernel<<<dim3((height * width + kThreads - 1) / kThreads, num_images), kThreads, 0,
                   stream>>>(semantic.const_data_ptr<int32_t>(), instance.const_data_ptr<int32_t>(),
                             height * width, num_classes, num_centers, flags, columns.label,
                             panoptic.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {panoptic, label, category, area, box, objectness};
}

namespace {

// Contiguous int32; what does not fit stays out of every range.
at::Tensor narrow_labels(const at::Tensor& labels) {
  const bool is_narrow = labels.element_size() <= 2 || labels.scalar_type() == at::kInt;
  constexpr int32_t kLargest = std::numeric_limits<int32_t>::max();
  const at::Tensor values = is_narrow ? labels : labels.to(at::kLong).clamp(kVoid, kLargest);
  return values.to(at::kInt).contiguous();
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>
merge_panoptic_cuda(const at::Tensor& semantic, const at::Tensor& instance,
                    const at::Tensor& center_scores, int64_t num_classes, at::IntArrayRef thing_ids,
                    int64_t label_divisor, int64_t stuff_area_limit) {
  check_merge_panoptic(semantic, instance, center_scores);
  check_label_divisor("merge_panoptic", label_divisor, num_classes);
  check_limits(semantic.size(0), semantic.size(1), semantic.size(2), center_scores.size(1));
  const ThingFlags flags = thing_flags("merge_panoptic", thing_ids, num_classes);
  const c10::cuda::CUDAGuard guard(semantic.device());
  return merge_on_device(narrow_labels(semantic), narrow_labels(instance),
                         center_scores.to(at::kFloat).contiguous(), num_classes, flags,
                         label_divisor, stuff_area_limit);
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) { m.impl("merge_panoptic", &merge_panoptic_cuda); }

}  // namespace deeplab2_d2
