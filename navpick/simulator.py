"""habitat-lab's RearrangeSim with two changes: its map takes in all furniture, and what no image shows is not computed.

Importing this module imports habitat-lab and registers the simulator as "NavPickSim-v0".
"""

from __future__ import annotations

from typing import Any

from habitat.articulated_agents.robots.fetch_suction import FetchSuctionRobot
from habitat.core.registry import registry
from habitat.datasets.rearrange.navmesh_utils import get_largest_island_index
from habitat.tasks.rearrange.rearrange_sim import RearrangeSim
from habitat_sim import SensorType
from habitat_sim.gfx import DEFAULT_LIGHTING_KEY, NO_LIGHT_KEY, LightInfo, LightPositionModel
from habitat_sim.physics import MotionType
from magnum import Color3, Vector4

# Films are lit from all sides, most of all from above.
DIRECTIONS = {(0, -1, 0): 0.9, (1, -0.1, 0.3): 1.0, (-1, -0.1, -0.3): 0.8, (-0.3, -0.1, 1): 0.7, (0.3, -0.1, -1): 0.5}
LIGHTS = [
    LightInfo(vector=Vector4(*direction, 0), color=Color3(brightness), model=LightPositionModel.Global)
    for direction, brightness in DIRECTIONS.items()
]


class UnlitFetch(FetchSuctionRobot):
    """A Fetch drawn without lights, which spares its materials the image-based lighting."""

    def reconfigure(self) -> None:
        """Load the robot before habitat-lab would, which cannot say how to light it."""
        self.sim_obj = self._sim.get_articulated_object_manager().add_articulated_object_from_urdf(
            self.urdf_path,
            fixed_base=self._fixed_base,
            maintain_link_order=self._maintain_link_order,
            light_setup_key=NO_LIGHT_KEY,
        )
        super().reconfigure()


@registry.register_simulator(name="NavPickSim-v0")
class NavPickSim(RearrangeSim):
    """The simulator of Nav & Pick."""

    _largest_indoor_island_idx: int

    def __init__(self, config: Any) -> None:
        """`config`: habitat-lab's `simulator`."""
        super().__init__(config)
        if self.unlit:
            # habitat-lab makes robots of its own classes only.
            self.agents_mgr[0].articulated_agent.__class__ = UnlitFetch

    def create_sim_config(self, _sensor_suite: Any) -> Any:
        """Return habitat-sim's configuration, without lights where no sensor has colours.

        Lights double the time that a depth image takes, and image-based lighting adds 14 s of CPU to the first load.
        """
        config = super().create_sim_config(_sensor_suite)
        sensors = config.agents[0].sensor_specifications
        self.unlit = not any(sensor.sensor_type == SensorType.COLOR for sensor in sensors)
        config.sim_cfg.override_scene_light_defaults = True
        config.sim_cfg.scene_light_setup = NO_LIGHT_KEY if self.unlit else DEFAULT_LIGHTING_KEY
        return config

    def reset(self) -> None:
        """Begin an episode, with our lights: habitat-sim has put its own in their place."""
        super().reset()
        if not self.unlit:
            self.set_light_setup(LIGHTS)

    def _recompute_navmesh(self) -> None:
        """Compute the map with articulated furniture in it; habitat-lab takes in only what cannot move."""
        robot = self.articulated_agent.sim_obj.object_id
        objects = self.get_articulated_object_manager().get_objects_by_handle_substring().values()
        furniture = [(thing, thing.motion_type) for thing in objects if thing.object_id != robot]
        for thing, _ in furniture:
            thing.motion_type = MotionType.STATIC
        super()._recompute_navmesh()
        if self._largest_indoor_island_idx < 0:  # without a ceiling nothing is indoors, and robots start on wardrobes
            self._largest_indoor_island_idx = get_largest_island_index(self.pathfinder, self, allow_outdoor=True)
        for thing, motion_type in furniture:
            thing.motion_type = motion_type
