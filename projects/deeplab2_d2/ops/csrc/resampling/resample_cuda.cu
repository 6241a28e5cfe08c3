// Work division: one thread an output value, or of the arg-max an output pixel, which takes its
// place in all channels: neighbours share the maps' pixels in the cache. No (C, H, W) tensor for
// the arg-max, no waiting for the GPU.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../ordering.h"
#include "resample.h"
#include "resampling_device.cuh"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;

// Maps one after the other, and the pixels of the output in them.
struct Frame {
  int32_t map_height, map_width, height, width;
  float scale_y, scale_x;
  bool is_identity;  // the output's pixels are the maps'

  __device__ __forceinline__ int64_t map_area() const {
    return static_cast<int64_t>(map_height) * map_width;
  }
};

// `pixel`: of the output, in raster order.
struct Place {
  Position y, x;

  __device__ __forceinline__ Place(const Frame& frame, int32_t pixel)
      : y(position_of(pixel / frame.width, frame.scale_y, frame.map_height)),
        x(position_of(pixel % frame.width, frame.scale_x, frame.map_width)) {}

  __device__ __forceinline__ float value(const Frame& frame, const float* map) const {
    return sample_or_copy(map, frame.map_width, y, x, 1.0f, frame.is_identity);
  }
};

__global__ void resample_kernel(Frame frame, const float* maps, int64_t num_values, float* out) {
  const int64_t area = static_cast<int64_t>(frame.height) * frame.width;
  const int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (index < num_values) {
    const Place place(frame, static_cast<int32_t>(index % area));
    out[index] = place.value(frame, maps + index / area * frame.map_area());
  }
}

__global__ void argmax_kernel(Frame frame, const float* maps, int32_t num_channels,
                              int64_t num_pixels, int32_t* out) {
  const int64_t area = static_cast<int64_t>(frame.height) * frame.width;
  const int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (index >= num_pixels) {
    return;
  }
  const Place place(frame, static_cast<int32_t>(index % area));
  const float* map = maps + index / area * num_channels * frame.map_area();
  float largest = place.value(frame, map);
  int32_t channel = 0;
  for (int32_t c = 1; c < num_channels; ++c) {
    const float value = place.value(frame, map + c * frame.map_area());
    const bool is_larger = is_new_largest(value, largest);
    largest = is_larger ? value : largest;
    channel = is_larger ? c : channel;
  }
  out[index] = channel;
}

Frame frame_of(const char* name, const at::Tensor& maps, at::IntArrayRef size,
               at::ArrayRef<double> scale) {
  check_resampling(name, maps, size, scale);
  constexpr int64_t kTooMany = int64_t(1) << 31;
  TORCH_CHECK(maps.size(1) < kTooMany && maps.size(2) < kTooMany && maps.size(3) < kTooMany, name,
              ": on a GPU maps must have less than 2**31 channels, rows and columns, got ",
              maps.sizes());
  return {static_cast<int32_t>(maps.size(2)),
          static_cast<int32_t>(maps.size(3)),
          static_cast<int32_t>(size[0]),
          static_cast<int32_t>(size[1]),
          static_cast<float>(scale[0]),
          static_cast<float>(scale[1]),
          is_identity(maps.size(2), maps.size(3), size.data(), scale.data())};
}

// Blocks of as many threads as there are values, at least one.
uint32_t count_blocks(const char* name, int64_t num_values) {
  const int64_t blocks = (num_values + kThreads - 1) / kThreads;
  TORCH_CHECK(blocks < int64_t(1) << 31, name, ": on a GPU the output must have less than 2**39 ",
              "values, got ", num_values);
  return static_cast<uint32_t>(blocks);
}

at::Tensor resample_aligned_cuda(const at::Tensor& maps, at::IntArrayRef size,
                                 at::ArrayRef<double> scale) {
  const Frame frame = frame_of("resample_aligned", maps, size, scale);
  const c10::cuda::CUDAGuard guard(maps.device());
  const at::Tensor source = maps.to(at::kFloat).contiguous();
  at::Tensor output = at::empty({maps.size(0), maps.size(1), size[0], size[1]}, source.options());
  if (output.numel() > 0) {
    resample_kernel<<<count_blocks("resample_aligned", output.numel()), kThreads, 0,
                      c10::cuda::getCurrentCUDAStream()>>>(
        frame, source.const_data_ptr<float>(), output.numel(), output.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return output;
}

at::Tensor resample_argmax_cuda(const at::Tensor& maps, at::IntArrayRef size,
                                at::ArrayRef<double> scale) {
  const Frame frame = frame_of("resample_argmax", maps, size, scale);
  const c10::cuda::CUDAGuard guard(maps.device());
  const at::Tensor source = maps.to(at::kFloat).contiguous();
  at::Tensor output = at::empty({maps.size(0), size[0], size[1]}, source.options().dtype(at::kInt));
  if (output.numel() > 0) {
    argmax_kernel<<<count_blocks("resample_argmax", output.numel()), kThreads, 0,
                    c10::cuda::getCurrentCUDAStream()>>>(
        frame, source.const_data_ptr<float>(), static_cast<int32_t>(maps.size(1)), output.numel(),
        output.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) {
  m.impl("resample_aligned", &resample_aligned_cuda);
  m.impl("resample_argmax", &resample_argmax_cuda);
}

}  // namespace deeplab2_d2
