/** What launchers say of the world that they started, by their environment variables. */
import { expect, test } from 'vitest';
import { launchedAs } from '../src/platform/node/launcher.ts';

const OPEN_MPI = { OMPI_COMM_WORLD_SIZE: '4', OMPI_COMM_WORLD_RANK: '3', OMPI_COMM_WORLD_LOCAL_RANK: '1' };
const MPICH = { PMI_SIZE: '2', PMI_RANK: '1', MPI_LOCALRANKID: '0', PMI_FD: '6' };
const SLURM = { SLURM_STEP_NUM_TASKS: '8', SLURM_PROCID: '5', SLURM_LOCALID: '2' };

test.each([
  ['no launcher', {}, null],
  ['mpirun -np 1', { ...OPEN_MPI, OMPI_COMM_WORLD_SIZE: '1', OMPI_COMM_WORLD_RANK: '0' }, null],
  ['Open MPI', OPEN_MPI, { rank: 3, size: 4, localRank: 1, by: 'Open MPI', mpi: true }],
  ['MPICH', MPICH, { rank: 1, size: 2, localRank: 0, by: 'MPICH', mpi: true }],
  ['srun with PMIx', { ...SLURM, PMIX_RANK: '5' }, { rank: 5, size: 8, localRank: 2, by: 'Slurm', mpi: true }],
  ['srun with PMI 2', { ...SLURM, PMI_RANK: '5', PMI_SIZE: '8' }, { rank: 5, size: 8, localRank: 2, by: 'MPICH', mpi: true }],
  ['srun without MPI', SLURM, { rank: 5, size: 8, localRank: 2, by: 'Slurm', mpi: false }],
  ['a batch script of Slurm, without srun', { SLURM_NTASKS: '8', SLURM_PROCID: '0', SLURM_LOCALID: '0' }, null],
  ['mpirun within a job of Slurm', { ...OPEN_MPI, SLURM_NTASKS: '8', SLURM_PROCID: '0' }, { rank: 3, size: 4, localRank: 1, by: 'Open MPI', mpi: true }],
])('%s', (_, environment, expected) => {
  expect(launchedAs(environment)).toEqual(expected);
});

test.each([
  [{ ...OPEN_MPI, OMPI_COMM_WORLD_RANK: '4' }, 'OMPI_COMM_WORLD_RANK to 4 and OMPI_COMM_WORLD_SIZE to 4'],
  [{ ...OPEN_MPI, OMPI_COMM_WORLD_SIZE: 'four' }, 'OMPI_COMM_WORLD_SIZE to "four"'],
  [{ ...MPICH, PMI_RANK: '-1' }, 'PMI_RANK to "-1"'],
])('what makes no sense is an error: %o', (environment, message) => {
  expect(() => launchedAs(environment)).toThrow(message);
});
