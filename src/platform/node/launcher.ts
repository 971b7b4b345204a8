/**
 * What a launcher (mpirun, mpiexec, srun) tells a process of the world that it started: which of how many it is. Launchers say it in
 * environment variables, so neither MPI nor a package is needed to know of it. A process without a launcher is on its own.
 */
import { GlimpseError } from '../../errors.ts';

export interface Launched {
  /** From 0. */
  rank: number;
  size: number;
  /** Place among the processes of this machine, from 0. */
  localRank: number;
  by: 'Open MPI' | 'MPICH' | 'Slurm';
  /** Whether the launcher offers what MPI_Init needs. `srun --mpi=none` does not. */
  mpi: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

interface Names {
  by: Launched['by'];
  rank: string;
  size: string;
  localRank: string;
  /** One of these must be there too. */
  mpi?: readonly string[];
}

/** Slurm sets SLURM_PROCID in a batch script too; SLURM_STEP_NUM_TASKS is only there under `srun`. */
const LAUNCHERS: readonly Names[] = [
  { by: 'Open MPI', rank: 'OMPI_COMM_WORLD_RANK', size: 'OMPI_COMM_WORLD_SIZE', localRank: 'OMPI_COMM_WORLD_LOCAL_RANK' },
  { by: 'MPICH', rank: 'PMI_RANK', size: 'PMI_SIZE', localRank: 'MPI_LOCALRANKID' },
  { by: 'Slurm', rank: 'SLURM_PROCID', size: 'SLURM_STEP_NUM_TASKS', localRank: 'SLURM_LOCALID', mpi: ['PMIX_RANK', 'PMI_RANK', 'PMI_FD'] },
];

function whole(environment: Environment, name: string): number {
  const text = environment[name] ?? '';
  if (!/^\d{1,9}$/.test(text)) throw new GlimpseError(`the launcher set ${name} to "${text}"; expected a whole number`);
  return Number(text);
}

/** What the launcher said, or null if none started this process, or started it alone. Throws a GlimpseError if what it said makes no sense. */
export function launchedAs(environment: Environment = process.env): Launched | null {
  const names = LAUNCHERS.find(({ rank, size }) => environment[rank] !== undefined && environment[size] !== undefined);
  if (!names) return null;
  const rank = whole(environment, names.rank);
  const size = whole(environment, names.size);
  if (rank >= size) throw new GlimpseError(`the launcher set ${names.rank} to ${rank} and ${names.size} to ${size}; expected a rank below the size`);
  if (size === 1) return null;
  const local = [names.localRank, 'SLURM_LOCALID'].find((name) => environment[name] !== undefined);
  const mpi = names.mpi === undefined || names.mpi.some((name) => environment[name] !== undefined);
  return { rank, size, localRank: local === undefined ? 0 : whole(environment, local), by: names.by, mpi };
}
