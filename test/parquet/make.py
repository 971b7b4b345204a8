"""Writes the Parquet files of this folder, with pyarrow: python test/parquet/make.py. The pictures are made here, of one color each."""
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent


def png(width, height, color):
    """A PNG of one color."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    rows = b''.join(b'\0' + bytes(color) * width for _ in range(height))
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


COLORS = {'red': (221, 34, 34), 'green': (34, 170, 68), 'blue': (34, 68, 221)}
NAMES = [list(COLORS)[i % 3] for i in range(8)]
PICTURES = [png(40 + i, 30, COLORS[name]) for i, name in enumerate(NAMES)]
CAPTIONS = [f'A {name} picture.' for name in NAMES]
LISTS = [[f'A {name} picture.', f'{name} all over'] for name in NAMES]
SPLITS = ['val' if i % 4 == 3 else 'train' for i in range(8)]
STRUCT = pa.struct([('bytes', pa.binary()), ('path', pa.string())])

structs = pa.array([{'bytes': data, 'path': f'{i}.png'} for i, data in enumerate(PICTURES)], STRUCT)
holes = pa.array([None if i == 2 else {'bytes': None if i == 3 else data, 'path': f'{i}.png'} for i, data in enumerate(PICTURES)], STRUCT)
binary = pa.array(PICTURES, pa.binary())
lists_with_nulls = [None if i == 1 else [] if i == 2 else [None, *each] if i == 3 else each for i, each in enumerate(LISTS)]


def write(name, columns, **options):
    pq.write_table(pa.table(columns), HERE / name, **{'row_group_size': 3, **options})


numbers = pa.array(range(8), pa.int64())
write('snappy.parquet', {'image': structs, 'caption': CAPTIONS, 'split': SPLITS, 'width': numbers}, compression='snappy')
write('zstd.parquet', {'jpg': binary, 'text': CAPTIONS}, compression='zstd')
write('gzip.parquet', {'image': structs, 'captions': LISTS}, compression='gzip')
write('brotli.parquet', {'image': structs, 'caption': CAPTIONS}, compression='brotli', data_page_version='2.0')
write('lz4.parquet', {'image': structs, 'caption': CAPTIONS}, compression='lz4')
write('plain.parquet', {'image': binary, 'caption': CAPTIONS}, compression='none', use_dictionary=False, write_statistics=False)
write('nulls.parquet', {'image': holes, 'captions': lists_with_nulls}, compression='snappy', data_page_version='2.0')
write('dictionary.parquet', {'image': structs, 'caption': [CAPTIONS[0] for _ in NAMES]}, compression='none', use_dictionary=['caption'], data_page_size=64)
write('pages.parquet', {'image': structs, 'captions': LISTS}, compression='zstd', row_group_size=8, data_page_size=16, write_batch_size=1)
write('names.parquet', {'file_name': [f'{i}.jpg' for i in range(8)], 'captions': LISTS, 'split': SPLITS}, compression='zstd')
deltas = {'caption': 'DELTA_BYTE_ARRAY', 'captions.list.element': 'DELTA_LENGTH_BYTE_ARRAY', 'image': 'DELTA_LENGTH_BYTE_ARRAY'}
write('delta.parquet', {'image': binary, 'caption': CAPTIONS, 'captions': LISTS}, use_dictionary=False, column_encoding=deltas, row_group_size=8)
write('large.parquet', {'image': pa.array(PICTURES, pa.large_binary()), 'captions': pa.array(LISTS, pa.large_list(pa.large_string()))}, compression='snappy')
